"""What a request may hold, and which actions it leaves to choose among."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.edge.contracts import ActionsIn, RecommendRequest
from shared.edge.decoding import Bounds
from shared.errors import InvalidInput, NotBootstrapped
from shared.settings import Settings
from shared.vocabulary import Action

if TYPE_CHECKING:
    from shared.policies.choosing import Chooser


class RequestChecks:
    """Holds requests against the bounds that the settings name."""

    def __init__(self, settings: Settings) -> None:
        """Take the bounds from the settings."""
        self._bounds = Bounds(settings)
        self._slate_limit = settings.slate_limit

    def check(self, request: RecommendRequest) -> None:
        """Check one request; raises `InvalidInput` or `TooLarge` with the field."""
        bounds = self._bounds
        bounds.string(request.policy, "policy")
        if request.user_id is not None:
            bounds.string(request.user_id, "user_id")
        if request.session_id is not None or request.request_id is not None or request.default_action is not None:
            for field in ("session_id", "request_id", "default_action"):
                bounds.string(getattr(request, field), field)
        if request.context:
            bounds.context(request.context, "context")
        if request.actions:
            self._check_actions(request.actions)
        if request.exclude:
            bounds.actions(dict.fromkeys(request.exclude), "exclude")
        if request.count > self._slate_limit:
            detail = f"at most {self._slate_limit}"
            raise InvalidInput(detail, field="count")

    def check_size(self, size: int) -> None:
        """Check how many requests, or items of them together, one batch has; raises `InvalidInput` or `TooLarge`."""
        self._bounds.batch(size, "requests")

    def _check_actions(self, actions: ActionsIn) -> None:
        self._bounds.actions([a if isinstance(a, str) else a.id for a in actions], "actions")
        for at, action in enumerate(actions):
            if not isinstance(action, str):
                self._bounds.context(action.features, f"actions[{at}].features")


def eligible_of(request: RecommendRequest, chooser: Chooser | None) -> tuple[Action, ...] | None:
    """Return the actions to choose among, None for the snapshot's own; an id alone means the snapshot's of that name.

    Raises `InvalidInput` (field `actions` or `exclude`) where none are left, `NotBootstrapped` where none are known.
    """
    own = {} if chooser is None else chooser.own
    if request.actions is not None:
        given = {
            action if isinstance(action, str) else action.id: (own.get(action) or Action(action))
            if isinstance(action, str)
            else Action(action.id, action.features)
            for action in request.actions
        }
        if not given:
            detail = "must not be empty; leave it out to choose among the policy's actions"
            raise InvalidInput(detail, field="actions")
    elif chooser is None:
        detail = f"no snapshot of {request.policy!r} is at hand yet; give actions, or try again"
        raise NotBootstrapped(detail, field="policy")
    elif not own:
        detail = f"the policy {request.policy!r} has no actions of its own"
        raise InvalidInput(detail, field="actions")
    elif not request.exclude:
        return None
    else:
        given = dict(own)
    for excluded in request.exclude:
        given.pop(excluded, None)
    if not given:
        detail = "nothing is left to choose from"
        raise InvalidInput(detail, field="exclude")
    return tuple(given.values())

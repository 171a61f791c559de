"""What the catalogue gives a unit, and why: everything of an experiment that GrowthBook's vectors do not look at."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from shared.experiments.assigning import Catalogue, Preview, PublishedCatalogue
from shared.experiments.experiment import ExperimentSpec, Filter, Layer, Prerequisite, Variation
from shared.experiments.flags import FlagSpec, Rule, RulePrerequisite
from tests.unit.experiments.catalogues import USERS, assign, catalogue, experiment, pseudonym


def test_an_assignment_says_all_there_is_to_say() -> None:
    """Who, where, what and why."""
    found = assign(catalogue(experiment("e", phase=3)), "e", "user-1")
    assert found.variation in ("a", "b")
    assert (found.experiment, found.phase, found.in_experiment, found.reason) == ("e", 3, True, "assigned")
    assert (found.hash_attribute, found.hash_value) == ("user_id", "user-1")
    assert found.value == {"a": 1, "b": 2}[found.variation or ""]
    assert found.place is not None
    assert 0 <= found.place < 1
    assert (found.holdout, found.kept) == (None, None)


@pytest.mark.parametrize(
    ("fields", "attributes", "reason"),
    [
        ({"status": "draft"}, {"user_id": "u"}, "draft"),
        ({"status": "stopped"}, {"user_id": "u"}, "stopped"),
        ({"layer": Layer("l", 0.0, 0.0)}, {"user_id": "u"}, "layer"),
        ({"filters": (Filter("s", ((0.0, 1.0),), "device"),)}, {"user_id": "u"}, "layer"),
        ({"condition": {"country": "DE"}}, {"user_id": "u"}, "condition"),
        ({"coverage": 0.0}, {"user_id": "u"}, "coverage"),
        ({"prerequisites": (Prerequisite("nobody", {"value": 1}),)}, {"user_id": "u"}, "prerequisite"),
        ({}, {}, "no_hash_attribute"),
        ({}, {"user_id": ""}, "no_hash_attribute"),
        ({}, {"user_id": None}, "no_hash_attribute"),
        ({}, {"user_id": 0}, "no_hash_attribute"),
        ({}, {"user_id": False}, "no_hash_attribute"),
        ({}, {"user_id": ["u"]}, "no_hash_attribute"),
        ({"fallback_attribute": "device"}, {"device": "d"}, "no_hash_attribute"),
    ],
)
def test_whoever_is_kept_out_gets_the_default(fields: dict[str, Any], attributes: dict[str, Any], reason: str) -> None:
    """The value of the default variation, no variation, and what kept it out."""
    found = catalogue(experiment("e", default="b", **fields)).assign("e", attributes, pseudonym)
    assert (found.variation, found.value, found.in_experiment, found.reason) == (None, 2, False, reason)


def test_an_experiment_that_there_is_not_is_unknown() -> None:
    """It has no variation, no phase and no value."""
    found = assign(catalogue(), "e", "u")
    assert (found.variation, found.value, found.phase, found.reason) == (None, None, 0, "unknown")


def test_a_number_hashes_as_its_text() -> None:
    """As in JavaScript: 42 and 42.0 are "42"."""
    of = catalogue(experiment("e"))
    places = {of.assign("e", {"user_id": user}, pseudonym).place for user in (42, 42.0, "42")}
    assert len(places) == 1


def test_a_new_phase_splits_anew() -> None:
    """Half of the units move; with a seed of its own, nobody does."""
    first, second = catalogue(experiment("e")), catalogue(experiment("e", phase=2))
    moved = [user for user in USERS if assign(first, "e", user).variation != assign(second, "e", user).variation]
    assert len(USERS) * 0.45 < len(moved) < len(USERS) * 0.55
    seeded = [catalogue(experiment("e", phase=phase, seed="s")) for phase in (1, 2)]
    assert all(assign(seeded[0], "e", user).variation == assign(seeded[1], "e", user).variation for user in USERS)


def test_growing_the_coverage_moves_nobody() -> None:
    """Whoever is in a variation stays in it while others join."""
    found = [
        {
            user: assign(catalogue(experiment("e", coverage=coverage, weights=(0.3, 0.7))), "e", user).variation
            for user in USERS
        }
        for coverage in (0.1, 0.11, 0.5, 0.99, 1.0)
    ]
    for before, after in pairwise(found):
        assert {user: variation for user, variation in before.items() if variation is not None}.items() <= after.items()
    assert [sum(variation is not None for variation in each.values()) for each in found] == sorted(
        sum(variation is not None for variation in each.values()) for each in found
    )
    assert None not in found[-1].values()


def test_experiments_of_one_layer_share_nobody() -> None:
    """Whoever is in one is in no other, and together they have everybody."""
    of = catalogue(experiment("e", layer=Layer("l", 0.0, 0.4)), experiment("f", layer=Layer("l", 0.4, 1.0)))
    assert all(assign(of, "e", user).in_experiment is not assign(of, "f", user).in_experiment for user in USERS)


@pytest.mark.parametrize("status", ["draft", "running"])
def test_who_is_forced_gets_it_whatever_else_is_said(status: str) -> None:
    """By the pseudonym of the hash attribute's value; not counted, and no longer once the experiment is stopped."""
    fields: dict[str, Any] = {"forced": {"user_id=ada": "b"}, "coverage": 0.0}
    found = assign(catalogue(experiment("e", status=status, **fields)), "e", "ada")
    assert (found.variation, found.value, found.in_experiment, found.reason) == ("b", 2, False, "forced")
    assert assign(catalogue(experiment("e", status="stopped", **fields)), "e", "ada").reason == "stopped"
    assert assign(catalogue(experiment("e", status=status, **fields)), "e", "bob").reason != "forced"


def test_pseudonyms_are_made_only_where_somebody_is_forced() -> None:
    """They cost an HMAC each."""

    def never(attribute: str, value: str) -> str:
        raise AssertionError(attribute, value)

    assert catalogue(experiment("e")).assign("e", {"user_id": "u"}, never).in_experiment


def test_a_released_variation_is_everybodys() -> None:
    """Targeting and coverage are over; it counts no more."""
    of = catalogue(experiment("e", status="stopped", released="b", coverage=0.1, condition={"country": "DE"}))
    found = {assign(of, "e", user)[2:6] for user in USERS}
    assert found == {("b", 2, False, "released")}
    assert assign(of, "e").variation == "b"


class TestHoldouts:
    """A holdout's first variation stays out of everything that names it, and is compared with a second one of its size."""

    def test_two_groups_of_the_same_size(self) -> None:
        """A tenth is kept out, a tenth is measured beside it, the rest is not measured."""
        of = catalogue(
            experiment("h", kind="holdout", coverage=0.2), experiment("e", holdout="h"), experiment("f", holdout="h")
        )
        for user in USERS:
            group = assign(of, "h", user).variation
            found = [assign(of, key, user) for key in ("e", "f")]
            due = None if group is None else ("h", 1, group)
            assert [each.holdout for each in found] == [due, due]
            assert [each.reason for each in found] == ["holdout" if group == "a" else "assigned"] * 2
            assert all(each.in_experiment is (group != "a") for each in found)
        sizes = [sum(assign(of, "h", user).variation == group for user in USERS) for group in ("a", "b")]
        assert all(len(USERS) * 0.08 < size < len(USERS) * 0.12 for size in sizes)

    def test_only_who_would_take_part_is_measured(self) -> None:
        """Both groups by the same rule, whatever the holdout gives them: layer, condition and coverage come before it."""
        of = catalogue(
            experiment("h", kind="holdout"), experiment("e", holdout="h", coverage=0.5, condition={"country": "DE"})
        )
        for user in USERS[:300]:
            assert assign(of, "e", user, country="AT").holdout is None
            found = assign(of, "e", user, country="DE")
            assert (found.holdout is None) is (found.reason == "coverage")

    def test_who_is_forced_into_a_group_is_not_measured(self) -> None:
        """Kept out, or let in, and no exposure is due."""
        for group, reason in (("a", "holdout"), ("b", "assigned")):
            of = catalogue(experiment("h", kind="holdout", forced={"user_id=u": group}), experiment("e", holdout="h"))
            found = assign(of, "e", "u")
            assert (found.reason, found.holdout) == (reason, None)

    def test_a_prerequisite_does_not_make_the_groups_unlike(self) -> None:
        """What is kept out of the prerequisite would not pass it: both groups are due before it is asked."""
        of = catalogue(
            experiment("h", kind="holdout"),
            experiment("p", holdout="h", variations=(Variation("a", 0), Variation("b", 1), Variation("c", 1))),
            experiment("e", holdout="h", prerequisites=(Prerequisite("p", {"value": 1}),)),
        )
        found = [assign(of, "e", user) for user in USERS]
        assert {each.reason for each in found} == {"holdout", "prerequisite", "assigned"}
        assert all(each.holdout is not None for each in found)

    def test_what_is_released_is_kept_back_too(self) -> None:
        """A holdout measures what all experiments together have brought."""
        of = catalogue(experiment("h", kind="holdout"), experiment("e", holdout="h", status="stopped", released="b"))
        found = [assign(of, "e", user) for user in USERS]
        assert {(each.reason, each.variation, each.holdout) for each in found} == {
            ("holdout", None, ("h", 1, "a")),
            ("released", "b", ("h", 1, "b")),
        }

    @pytest.mark.parametrize("status", ["draft", "stopped"])
    def test_a_holdout_that_does_not_run_keeps_nobody_out(self, status: str) -> None:
        """Its experiments have everybody."""
        of = catalogue(experiment("h", kind="holdout", status=status), experiment("e", holdout="h"))
        assert {assign(of, "e", user).reason for user in USERS[:100]} == {"assigned"}

    def test_no_circle_of_holdouts_hangs(self) -> None:
        """Neither itself nor a prerequisite that leads back; such are refused when they are written."""
        of = catalogue(
            experiment("h", kind="holdout", holdout="h", prerequisites=(Prerequisite("e", {"value": 1}),)),
            experiment("e", holdout="h"),
        )
        assert {assign(of, "e", user).reason for user in USERS[:100]} == {"assigned"}
        assert {assign(of, "h", user).reason for user in USERS[:100]} <= {"assigned", "prerequisite"}


class TestStickiness:
    """What a unit once drew stays its own."""

    def test_what_is_kept_survives_new_shares(self) -> None:
        """Kept once, found again, and then there is nothing new to keep."""
        before = assign(catalogue(experiment("e", sticky=True)), "e", "u")
        assert before.kept == ("e__0", before.variation)
        kept = {"user_id": {"e__0": before.variation or ""}}
        other = "a" if before.variation == "b" else "b"
        weights = (0.0, 1.0) if other == "b" else (1.0, 0.0)
        changed = catalogue(experiment("e", sticky=True, weights=weights, condition={"country": "DE"}))
        after = assign(changed, "e", "u", kept)
        assert (after.variation, after.reason, after.in_experiment, after.kept) == (
            before.variation,
            "sticky",
            True,
            None,
        )
        assert assign(changed, "e", "u", country="DE").variation == other

    def test_a_fallback_holds_until_the_user_is_known(self) -> None:
        """Assigned by the device, then kept for the user as well; what the user has of their own comes first."""
        of = catalogue(experiment("e", sticky=True, fallback_attribute="device"))
        by_device = assign(of, "e", device="d")
        assert (by_device.hash_attribute, by_device.hash_value) == ("device", "d")
        drawn = by_device.variation or ""
        other = "a" if drawn == "b" else "b"
        known = assign(of, "e", "u", {"device": {"e__0": drawn}}, device="d")
        assert (known.hash_attribute, known.variation, known.reason, known.kept) == (
            "user_id",
            drawn,
            "sticky",
            ("e__0", drawn),
        )
        assert (
            assign(of, "e", "u", {"device": {"e__0": drawn}, "user_id": {"e__0": other}}, device="d").variation == other
        )

    def test_bucket_versions_forget_and_block(self) -> None:
        """Another version forgets what was kept; whoever was kept below the minimum stays out."""
        kept = {"user_id": {"e__0": "a"}}
        forgotten = assign(catalogue(experiment("e", sticky=True, bucket_version=1)), "e", "u", kept)
        assert (forgotten.reason, forgotten.kept) == ("assigned", ("e__1", forgotten.variation))
        blocked = assign(
            catalogue(experiment("e", sticky=True, bucket_version=1, minimum_bucket_version=1)), "e", "u", kept
        )
        assert (blocked.reason, blocked.variation, blocked.kept) == ("bucket_version", None, None)

    def test_a_variation_that_is_gone_is_forgotten(self) -> None:
        """The unit is assigned anew."""
        assert (
            assign(catalogue(experiment("e", sticky=True)), "e", "u", {"user_id": {"e__0": "gone"}}).reason
            == "assigned"
        )


class TestPrerequisites:
    """What another flag or experiment gives decides first."""

    def test_an_experiment_may_need_a_variation_of_another(self) -> None:
        """Only who has `b` of the one is in the other."""
        of = catalogue(experiment("p"), experiment("e", prerequisites=(Prerequisite("p", {"value": 2}),)))
        for user in USERS[:300]:
            assert assign(of, "e", user).in_experiment is (assign(of, "p", user).variation == "b")

    def test_circles_end(self) -> None:
        """Of experiments, and of a flag with one: what leads back is not met. Such are refused when they are written."""
        of = catalogue(
            experiment("e", prerequisites=(Prerequisite("f", {}),)),
            experiment("f", prerequisites=(Prerequisite("e", {}),)),
            experiment("g", prerequisites=(Prerequisite("flag", {}),)),
            FlagSpec("flag", 1, True, (Rule(value=1, prerequisites=(RulePrerequisite("g", {}),)),)),
        )
        assert [assign(of, key, "u").reason for key in ("e", "g")] == ["assigned", "prerequisite"]
        assert of.evaluate("flag", {"user_id": "u"}, pseudonym).value == 1
        assert [of.evaluate(key, {"user_id": "u"}, pseudonym).source for key in ("flag", "e")] == [
            "value",
            "experiment",
        ]

    def test_many_ways_to_one_prerequisite_are_gone_once(self) -> None:
        """30 layers of two flags, each needing both of the layer below: 2^30 ways."""
        flags = [FlagSpec("f0a", 1, True), FlagSpec("f0b", 1, True)]
        for depth in range(1, 31):
            below = tuple(RulePrerequisite(f"f{depth - 1}{side}", {"value": True}) for side in "ab")
            flags += [FlagSpec(f"f{depth}{side}", 1, False, (Rule(value=True, prerequisites=below),)) for side in "ab"]
        assert catalogue(*flags).evaluate("f30a", {}, pseudonym).value is True

    def test_a_circle_at_the_end_of_many_ways_does_not_hang(self) -> None:
        """30 layers of two experiments, each needing both of the layer below, over two that need each other."""

        def needing(key: str, *below: str) -> ExperimentSpec:
            return experiment(key, prerequisites=tuple(Prerequisite(each, {}) for each in below))

        specs = [needing("e0a", "e0b"), needing("e0b", "e0a")]
        for depth in range(1, 31):
            specs += [needing(f"e{depth}{side}", f"e{depth - 1}a", f"e{depth - 1}b") for side in "ab"]
        assert assign(catalogue(*specs), "e30a", "u").reason == "prerequisite"

    def test_what_a_circle_cut_short_is_not_kept(self) -> None:
        """From within the circle `b` comes out otherwise than from outside, and only that counts outside."""
        of = catalogue(
            experiment("a", prerequisites=(Prerequisite("b", {"value": 1}),)),
            experiment("b", prerequisites=(Prerequisite("a", {}),)),
            FlagSpec(
                "f",
                1,
                rules=(Rule(value=1, prerequisites=(RulePrerequisite("a", {}), RulePrerequisite("b", {"value": 2}))),),
            ),
        )
        for user in USERS[:50]:
            b = of.evaluate("b", {"user_id": user}, pseudonym).value
            assert of.evaluate("f", {"user_id": user}, pseudonym).value == (1 if b == 2 else None)

    def test_what_sticks_needs_no_prerequisite_any_more(self) -> None:
        """It was met when the unit came in."""
        of = catalogue(experiment("e", sticky=True, prerequisites=(Prerequisite("nobody", {"value": 1}),)))
        assert assign(of, "e", "u", {"user_id": {"e__0": "b"}}).reason == "sticky"
        assert assign(of, "e", "u").reason == "prerequisite"

    def test_a_chain_without_end_is_a_circle(self) -> None:
        """Before the stack ends."""
        flags = [
            FlagSpec(f"f{at}", 1, True, (Rule(value=1, prerequisites=(RulePrerequisite(f"f{at + 1}", {}),)),))
            for at in range(2000)
        ]
        assert catalogue(*flags).evaluate("f0", {}, pseudonym).source == "cycle"


class TestPreviews:
    """What a tester wants to see counts for nothing."""

    def test_a_forced_variation(self) -> None:
        """Of a draft too; a variation that there is not is none."""
        of = catalogue(experiment("e", status="draft"))
        found = of.assign("e", {"user_id": "u"}, pseudonym, preview=Preview({"e": "b"}))
        assert (found.variation, found.in_experiment, found.reason) == ("b", False, "forced")
        assert of.assign("e", {"user_id": "u"}, pseudonym, preview=Preview({"e": "z"})).variation is None

    def test_nothing_else(self) -> None:
        """Alone, the tester is in nothing but what was asked for; pinned, only where they would take part."""
        of = catalogue(experiment("e"), experiment("f", coverage=0.0))
        assert of.assign("e", {"user_id": "u"}, pseudonym, preview=Preview(alone=True)).reason == "preview"
        pinned = Preview(pinned={"e": "b", "f": "b"}, alone=True)
        found = [of.assign(key, {"user_id": "u"}, pseudonym, preview=pinned) for key in ("e", "f")]
        assert [(each.variation, each.reason, each.in_experiment) for each in found] == [
            ("b", "forced", False),
            (None, "coverage", False),
        ]


class TestCatalogue:
    """All that is published, at once."""

    def test_by_policy_names_what_splits_a_policy(self) -> None:
        """Running experiments alone; of two, the first by key."""
        of = catalogue(
            experiment("b", policy="p"),
            experiment("a", policy="p"),
            experiment("c", policy="q", status="draft"),
            experiment("d"),
        )
        assert {policy: each.spec.key for policy, each in of.by_policy.items()} == {"p": "a"}

    def test_one_that_cannot_be_compiled_harms_no_other(self) -> None:
        """It is unknown, and why is said."""
        of = catalogue(experiment("e", default="z"), experiment("f"), experiment("g", variations=()))
        assert set(of.broken) == {"e", "g"}
        assert [assign(of, key, "u").reason for key in ("e", "f", "g")] == ["unknown", "assigned", "unknown"]

    def test_what_is_published_survives_its_encoding(self) -> None:
        """A rule that gives null stays one, and one that gives nothing too."""
        rules = (
            Rule(value=None, condition={"a": 1}),
            Rule(experiment="e", pass_through=("a",)),
            Rule(prerequisites=(RulePrerequisite("e", {"value": 1}, gate=True),)),
        )
        published = PublishedCatalogue(
            7,
            (
                experiment(
                    "e",
                    condition={"c": {"$inGroup": "g"}},
                    variations=(Variation("a", {"policy": "x"}), Variation("b", [1, None])),
                ),
            ),
            (FlagSpec("f", 1, {"deep": [1.5, "x"]}, rules),),
            {"g": ["DE", 1]},
        )
        read = msgspec.msgpack.decode(msgspec.msgpack.encode(published), type=PublishedCatalogue)
        assert read == published
        assert [rule.value is msgspec.UNSET for rule in read.flags[0].rules] == [False, True, True]
        of = Catalogue.of(read)
        assert (of.version, of.broken) == (7, {})
        assert assign(of, "e", "u", c="DE").in_experiment

    def test_inputs_stay_as_they_are(self) -> None:
        """Attributes and what is kept are read only."""
        of = catalogue(experiment("e", sticky=True, condition={"a.b": [1]}))
        attributes, kept = {"user_id": "u", "a": {"b": [1]}}, {"user_id": {"x__0": "a"}}
        of.assign("e", attributes, pseudonym, kept)
        assert attributes == {"user_id": "u", "a": {"b": [1]}}
        assert kept == {"user_id": {"x__0": "a"}}

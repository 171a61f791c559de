"""Who reaches whom under the NetworkPolicies of an environment, by Kubernetes' rules.

A connection passes if the sender's egress and the recipient's ingress both allow it. A pod that no policy selects for a
direction is free in it; else some rule of a policy that selects it must name the other side and the port. Of ports only TCP
ones are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

NAMESPACE = "knudge"
NAME_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Peer:
    """One side of a connection: a pod of a namespace with its labels, or an address outside of the cluster."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = NAMESPACE
    address: str | None = None


def reaches(policies: Iterable[Mapping[str, Any]], sender: Peer, recipient: Peer, port: int) -> bool:
    """Say whether `sender` may open a TCP connection to `port` of `recipient`."""
    policies = list(policies)
    return _allows(policies, "Egress", sender, recipient, port) and _allows(
        policies, "Ingress", recipient, sender, port
    )


def _allows(policies: list[Mapping[str, Any]], direction: str, pod: Peer, other: Peer, port: int) -> bool:
    """Say whether the policies for `pod` let it have a connection with `other` in a direction."""
    if pod.address is not None or pod.namespace != NAMESPACE:
        return True  # not ours to say
    rules, side = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    selecting = [
        policy["spec"]
        for policy in policies
        if direction in policy["spec"]["policyTypes"] and _selects(policy["spec"]["podSelector"], pod.labels)
    ]
    if not selecting:
        return True
    return any(
        _names(rule.get(side), other) and _opens(rule.get("ports"), port)
        for spec in selecting
        for rule in spec.get(rules, [])
    )


def _opens(ports: list[Mapping[str, Any]] | None, port: int) -> bool:
    return not ports or any(each.get("protocol", "TCP") == "TCP" and each.get("port", port) == port for each in ports)


def _names(peers: list[Mapping[str, Any]] | None, other: Peer) -> bool:
    return not peers or any(_is(peer, other) for peer in peers)


def _is(peer: Mapping[str, Any], other: Peer) -> bool:
    if "ipBlock" in peer:
        return other.address is not None and ip_address(other.address) in ip_network(peer["ipBlock"]["cidr"])
    if other.address is not None:
        return False
    namespace = peer.get("namespaceSelector")
    right_namespace = (
        other.namespace == NAMESPACE if namespace is None else _selects(namespace, {NAME_LABEL: other.namespace})
    )
    return right_namespace and _selects(peer.get("podSelector") or {}, other.labels)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()) and all(
        _meets(labels.get(each["key"]), each["operator"], each.get("values") or [])
        for each in selector.get("matchExpressions") or []
    )


def _meets(value: str | None, operator: str, values: list[str]) -> bool:
    if operator in {"Exists", "DoesNotExist"}:
        return (value is not None) == (operator == "Exists")
    return (value in values) == (operator == "In")

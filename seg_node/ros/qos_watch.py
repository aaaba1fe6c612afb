"""Quality of service of a node's topics: what is offered, what may be overridden, and who is left without messages."""

import copy
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.duration import Duration
from rclpy.event_handler import EventHandler, QoSPublisherEventType, UnsupportedEventTypeError
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.publisher import Publisher
from rclpy.qos import (
    LivelinessPolicy,
    QoSCompatibility,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo

from seg_node.core.errors import UserError

OVERRIDABLE = (
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DEADLINE,
    QoSPolicyKind.LIFESPAN,
    QoSPolicyKind.LIVELINESS,
    QoSPolicyKind.LIVELINESS_LEASE_DURATION,
)
"""Policies of a publisher that ``qos_overrides`` parameters set. Not the durability: a late joiner would take a mask of
long ago for a new one. Not the history: one that keeps all has the node wait for its slowest subscriber."""

_EVENTS = {
    "missed_deadlines": QoSPublisherEventType.RCL_PUBLISHER_OFFERED_DEADLINE_MISSED,
    "lost_liveliness": QoSPublisherEventType.RCL_PUBLISHER_LIVELINESS_LOST,
}
_NAMED = 3
"""Number of endpoints that a warning names, for each topic."""


@dataclass(eq=False)
class _Offer:
    """A publisher, its events by name, their counts so far, None where no event tells, and at the look before."""

    publisher: Publisher
    events: dict[str, EventHandler] = field(default_factory=dict)
    counts: dict[str, int | None] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)

    def note(self, name: str, status: Any) -> None:
        """Take what an event says; called by a thread of the executor."""
        self.counts[name] = status.total_count


class QosWatch:
    """Makes a node's publishers, and finds what their quality of service, and that of a subscription, costs others.

    Args:
        node: whose topics they are.
    """

    def __init__(self, node: LifecycleNode):
        self._node = node
        self._offers: list[_Offer] = []
        self._lock = threading.Lock()
        """Keeps a publisher while it is looked at: the reports are another thread's."""

    def offer(self, kind: type, topic: str, qos: QoSProfile, lifecycle: bool = False) -> Publisher:
        """Make a publisher.

        Args:
            kind: class of its messages.
            topic: relative, absolute or private name.
            qos: what is offered where no parameter ``qos_overrides.TOPIC.publisher.POLICY`` says otherwise.
            lifecycle: whether it is active only while the node is.

        Raises:
            UserError: such a parameter has a value that its policy cannot have.
        """
        # A copy, for rclpy writes what overrides into the profile that it is given.
        profile = copy.copy(qos)
        options = QoSOverridingOptions(OVERRIDABLE, callback=_check)
        make = self._node.create_lifecycle_publisher if lifecycle else self._node.create_publisher
        try:
            publisher = make(kind, topic, profile, qos_overriding_options=options)
        except (InvalidQosOverridesError, ParameterException, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"the quality of service of {self._node.resolve_topic_name(topic)}: {error}") from error
        offer = _Offer(publisher)
        promised = {"missed_deadlines": profile.deadline, "lost_liveliness": profile.liveliness_lease_duration}
        for name in (name for name, duration in promised.items() if _milliseconds(duration)):
            try:
                # In a group of its own: a service that loads a model may take seconds.
                offer.events[name] = EventHandler(
                    callback_group=MutuallyExclusiveCallbackGroup(),
                    callback=partial(offer.note, name),
                    event_type=_EVENTS[name],
                    parent_impl=publisher.handle,
                )
                offer.counts[name] = 0
                self._node.add_waitable(offer.events[name])
            except UnsupportedEventTypeError:
                offer.counts[name] = None
        with self._lock:
            self._offers.append(offer)
        return publisher

    def withdraw(self, *publishers: Publisher) -> None:
        """Destroy publishers; without any, all that were made."""
        with self._lock:
            for offer in [offer for offer in self._offers if not publishers or offer.publisher in publishers]:
                self._offers.remove(offer)
                for event in offer.events.values():
                    self._node.remove_waitable(event)
                    event.destroy()
                if isinstance(offer.publisher, LifecyclePublisher):
                    self._node.destroy_lifecycle_publisher(offer.publisher)
                else:
                    self._node.destroy_publisher(offer.publisher)

    def look(self, subscribed: str = "", asked: QoSProfile | None = None) -> tuple[dict[str, str], list[str]]:
        """Look at what has happened since the last look, and at who is left out now.

        Args:
            subscribed: full name of a topic whose publishers are looked at, too.
            asked: what the node's subscription to it asks for.

        Returns:
            Values for diagnostics: for each deadline or lease that is offered, ``missed_deadlines.TOPIC`` or
            ``lost_liveliness.TOPIC`` since the publisher was made, ``not known`` where the middleware does not tell;
            and what a person should see.
        """
        values, warnings = {}, []
        with self._lock:
            for offer in self._offers:
                warnings += _news(offer)
                topic = offer.publisher.topic_name
                for name, count in offer.counts.items():
                    values[f"{name}.{topic.rpartition('/')[2]}"] = "not known" if count is None else str(count)
                warnings += self._left_out(topic, offer.publisher.qos_profile)
        if asked is not None:
            warnings += self._not_heard(subscribed, asked)
        return values, warnings

    def _left_out(self, topic: str, offered: QoSProfile) -> list[str]:
        endpoints = self._node.get_subscriptions_info_by_topic(topic)
        found = ((end, _conflict(offered, end.qos_profile)) for end in endpoints)
        advice = "see qos_overrides and mask_deadline_ms"
        return _some([f"{topic}: {_name(end)} gets no messages: {why}; {advice}" for end, why in found if why])

    def _not_heard(self, topic: str, asked: QoSProfile) -> list[str]:
        endpoints = self._node.get_publishers_info_by_topic(topic)
        found = ((end, _conflict(end.qos_profile, asked)) for end in endpoints)
        advice = "see qos_overrides"
        return _some([f"{topic}: nothing comes from {_name(end)}: {why}; {advice}" for end, why in found if why])


def _news(offer: _Offer) -> Iterator[str]:
    """What events have told since this was asked before."""
    topic, profile = offer.publisher.topic_name, offer.publisher.qos_profile
    for name, count in offer.counts.items():
        grown = (count or 0) - offer.before.get(name, 0)
        offer.before[name] = count or 0
        if grown > 0 and name == "missed_deadlines":
            yield f"{topic}: deadline of {_milliseconds(profile.deadline):g} ms missed, {grown} times"
        elif grown > 0:
            lease = _milliseconds(profile.liveliness_lease_duration)
            yield f"{topic}: no sign of life within the lease of {lease:g} ms, {grown} times"


def _check(profile: QoSProfile) -> SetParametersResult:
    """Refuse what a middleware would refuse in words of its own, or take for something else.

    Raises:
        UserError: says what is wrong.
    """
    wrong = []
    if not 0 < profile.depth < 2**31:
        wrong.append(f"depth is {profile.depth}; expected at least 1")
    for name in ("deadline", "lifespan", "liveliness_lease_duration"):
        if (nanoseconds := getattr(profile, name).nanoseconds) < 0:
            wrong.append(f"{name} is {nanoseconds}; expected nanoseconds, or 0 for none")
    choices = {
        "reliability": (ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT),
        "liveliness": (LivelinessPolicy.SYSTEM_DEFAULT, LivelinessPolicy.AUTOMATIC, LivelinessPolicy.MANUAL_BY_TOPIC),
    }
    for name, allowed in choices.items():
        if (value := getattr(profile, name)) not in allowed:
            names = ", ".join(policy.name.lower() for policy in allowed)
            wrong.append(f"{name} is {value.name.lower()}; expected one of {names}")
    if wrong:
        raise UserError("; ".join(wrong))
    return SetParametersResult(successful=True)


def _milliseconds(duration: Duration) -> float:
    """Milliseconds of a duration that binds; 0 for none and for an infinite one."""
    return duration.nanoseconds / 1e6 if 0 < duration.nanoseconds < 2**63 - 1 else 0.0


def _conflict(offered: QoSProfile, asked: QoSProfile) -> str:
    """Why the middleware gives nothing of an offer to who asks, in its words; empty where it does."""
    compatibility, reasons = qos_check_compatible(_without_infinities(offered), _without_infinities(asked))
    if compatibility != QoSCompatibility.ERROR:
        return ""
    words = [text.strip().removeprefix("ERROR: ") for text in reasons.split(";") if text.strip().startswith("ERROR")]
    durations = {"deadline": [end.deadline for end in (asked, offered)]}
    durations["lease"] = [end.liveliness_lease_duration for end in (asked, offered)]
    for i, text in enumerate(words):
        for kind in (kind for kind in durations if kind in text):
            wanted, given = (f"{of:g} ms" if (of := _milliseconds(d)) else "none" for d in durations[kind])
            words[i] = f"{text} ({wanted} asked for, {given} offered)"
    return ", ".join(text[:1].lower() + text[1:] for text in words) or "the middleware does not say why"


def _without_infinities(profile: QoSProfile) -> QoSProfile:
    """The same with 0 for durations that do not bind: the graph says infinite, in which a check sees another value."""
    profile = copy.copy(profile)
    for name in ("deadline", "liveliness_lease_duration"):
        if not _milliseconds(getattr(profile, name)):
            setattr(profile, name, Duration())
    return profile


def _name(endpoint: TopicEndpointInfo) -> str:
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"


def _some(texts: list[str]) -> list[str]:
    texts = list(dict.fromkeys(texts))
    return texts[:_NAMED] + [f"and {len(texts) - _NAMED} more"] * (len(texts) > _NAMED)

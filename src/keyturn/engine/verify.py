"""STAGED: prove what the new key can do, and that it may do no more, before anybody is given it.

The key is asked about itself, makes one private read, and is held against the declaration: exactly
these permissions, exactly these addresses, the same account. A key that can do more is revoked again.
A key that only another machine may use is tried from there, by proxy or by its bot, never waved through.
"""

from __future__ import annotations

from dataclasses import dataclass

from keyturn.domain.errors import KEY_FAULTS, ConsumerError, ConsumerFault, ExchangeError, ExchangeFault
from keyturn.domain.evidence import ProbeFault, ProbeReport, ProbeRequest
from keyturn.domain.keys import KeyFacts, Permission
from keyturn.domain.rotation import EventType, Park
from keyturn.domain.slots import Slot, Stored
from keyturn.engine import listing, liveness, proofs
from keyturn.engine.added import added_by
from keyturn.engine.liveness import Life
from keyturn.engine.work import Rest, Work
from keyturn.ports.consumer import Consumer
from keyturn.ports.exchange import Caller

# A new key may be refused for as long as the venue says that changes take, and a minute on top of it;
# one that is refused for longer was never made right.
_BIRTH_MARGIN_SECONDS = 60.0
# How often a venue that does not know the new key yet is asked again.
_BIRTH_POLL_SECONDS = 1.0
# How often the bot's probe report is looked for.
_PROBE_POLL_SECONDS = 1.0


# Faults that say nothing about the key. With any other the key, open to every address, is not kept waiting.
_PASSING = {
    ExchangeFault.VENUE_DOWN,
    ExchangeFault.RATE_LIMITED,
    ExchangeFault.BARRED_REGION,
    ExchangeFault.OUTCOME_UNKNOWN,
    ExchangeFault.CLOCK_SKEW,
    ExchangeFault.MACHINE,
}


_DOES_NOT_WORK = {
    Life.LACKS_RIGHT: "The new key may not even read its balance.",
    Life.UNKNOWN_TO_VENUE: "The venue never came to know the new key.",
    Life.REFUSED: "The venue knows the new key and never took a call of it.",
    Life.UNCLEAR: "The venue never took a call of the new key.",
}


@dataclass(frozen=True, slots=True)
class Probed:
    """What is known of the new key, and how."""

    #: None: its bot tried the key; what the key may do is for the manager's list to tell.
    facts: KeyFacts | None
    by: str


async def verify(work: Work) -> Rest | None:
    """Try the pending key and judge it."""
    r = work.rotation
    pending = await work.store.read(work.path, Slot.PENDING)
    if pending is None or pending.info.attempt != r.current_attempt:
        await work.abort("The staged secret is no longer in the pending slot.")
        return None
    try:
        if work.driver.manifest.ip.set_at == "after" and work.entry.ip_allowlist:
            await work.driver.edit_key(await work.manager(), work.new_handle(), work.spec(r.current_attempt))
    except ExchangeError as error:
        if error.fault in _PASSING:
            raise
        await work.abort(f"The new key could not be bound to its addresses: {error.what}")
        return None
    try:
        probed = await _probe(work, pending)
    except ExchangeError as error:
        return await _refused(work, error)
    return probed if isinstance(probed, Rest) else await _judge(work, probed)


async def _judge(work: Work, probed: Probed) -> Rest | None:
    """Hold what is known of the key against what is declared; nothing is forgiven."""
    r, facts = work.rotation, probed.facts
    by_list = facts is None or facts.ip_allowlist is None
    if by_list:
        facts = _completed(facts, await _listed(work))
    problems = _judge_rights(work, facts) if facts else []
    # A list may be outdated; but a key that can do more is not given the time to.
    if by_list and not problems and (facts is None or _judge_addresses(work, facts)) and _is_young(work):
        return await work.defer(
            _BIRTH_POLL_SECONDS, "The venue's list does not show the new key as made yet."
        )
    if facts is None:
        await work.abort("The venue never came to list the new key.")
        return None
    if problems := problems + _judge_addresses(work, facts):
        await work.abort("The new key is not what was declared: " + "; ".join(problems) + ".")
        return None
    await work.commit(
        work.event(
            EventType.VERIFIED,
            f"tried by {probed.by}",
            account_uid=facts.account_uid or r.account_uid,
            expires_at=facts.expires_at,
        )
    )
    return None


async def _probe(work: Work, pending: Stored) -> Probed | Rest:
    caller = Caller(pending.material, work.entry.egress_proxy)
    try:
        facts = await work.driver.introspect(caller)
        await work.driver.private_read(caller)
    except ExchangeError as error:
        if error.fault is not ExchangeFault.WRONG_IP or work.entry.egress_proxy:
            raise
        return await _probe_by_bot(work, pending)
    return Probed(facts, "keyturn through the egress proxy" if caller.egress_proxy else "keyturn")


def _completed(facts: KeyFacts | None, listed: KeyFacts | None) -> KeyFacts | None:
    """Add what only the manager's list tells: Deribit tells a key nothing of its own address list.

    What the key may do is what either of them tells. A token of Deribit may be given less than the key's
    `max_scope`, which the next token can have (docs.deribit.com, Access scope, read 2026-11-21).
    """
    if facts is None or listed is None:
        return facts or listed
    return KeyFacts(
        key_ref=facts.key_ref,
        grants=facts.grants | listed.grants,
        permissions=facts.permissions | listed.permissions,
        unnamed=facts.unnamed | listed.unnamed,
        ip_allowlist=listed.ip_allowlist,
        label=listed.label,
        account_uid=facts.account_uid or listed.account_uid,
        parent_uid=facts.parent_uid,
        created_at=listed.created_at,
        expires_at=facts.expires_at or listed.expires_at,
        enabled=listed.enabled,
        handle=listed.handle,
    )


async def _listed(work: Work) -> KeyFacts | None:
    """Give the manager's view of the new key."""
    keys = await listing.look(work, await work.manager())
    return next((k for k in keys if k.key_ref == work.rotation.new_ref), None)


async def _probe_by_bot(work: Work, pending: Stored) -> Probed | Rest:
    """Let the bot that will use the key try it from its own address."""
    r = work.rotation
    name = work.world.inventory.prober_of(r.credential)
    consumer = work.consumers().get(name) if name else None
    if name is None or consumer is None or not consumer.can_probe:
        return await work.park(
            Park.NO_PROOF,
            "The new key is bound to another address and nothing there can try it.",
            "Give the credential an egress_proxy whose address is on the list, or a consumer of kind client."
            f" Then: keyturn resume {r.credential}",
        )
    request = ProbeRequest(
        credential=r.credential,
        consumer=name,
        rotation_id=r.id,
        attempt=r.attempt,
        fingerprint=r.new_fingerprint or "",
        version=pending.info.version,
    )
    if r.probe_by is None:
        # Before any report is looked at: one from before a park would park it again.
        await consumer.request_probe(request)
        await work.commit(work.event(EventType.PROBE_REQUESTED, name, probe_by=work.after(r.confirm_seconds)))
        return Rest(work.after(_PROBE_POLL_SECONDS), f"{name} to try the key from its own address")
    report = await _report_of(work, consumer, request)
    # A bot that met a passing fault tries again; its word is still to come.
    if report is not None and report.fault not in _PASSING:
        return await _judge_report(work, name, report)
    if work.now() >= r.probe_by:
        return await work.park(
            Park.NO_PROOF,
            f"The new key is bound to another address and {name} has not tried it in time.",
            f"See that {name} runs with keyturn.client and reaches the exchange, then:"
            f" keyturn resume {r.credential}",
        )
    return Rest(work.after(_PROBE_POLL_SECONDS), f"{name} to try the key from its own address")


async def _report_of(work: Work, consumer: Consumer, request: ProbeRequest) -> ProbeReport | None:
    """Read a report; one that does not count is none, and what is wrong with it is told."""
    try:
        return await consumer.probe_report(request)
    except ConsumerError as error:
        if error.fault is not ConsumerFault.UNAUTHENTICATED:
            raise
        await proofs.write_down(work, error.what)
        return None


async def _judge_report(work: Work, name: str, report: ProbeReport) -> Probed | Rest:
    """Take the bot's word that the key works there; the manager's list tells what it may do.

    Raises:
        ExchangeError: the key did not work there.
    """
    if report.fault == ProbeFault.PENDING_DENIED:
        return await work.park(
            Park.NO_PROOF,
            f"The new key is bound to another address, and {name} may not read it to try it there.",
            f"Let {name} read the pending key of {work.path}, as infra/vault/consumer.hcl and"
            " infra/aws/README.md say (age files: keyturn store reseal), or give the credential an"
            " egress_proxy."
            f" Then: keyturn resume {work.rotation.credential}",
        )
    if report.fault:
        fault = ExchangeFault(report.fault)
        raise ExchangeError(fault, f"{name} tried the key from its own address: {fault}.")
    return Probed(report.facts, name)


def _is_young(work: Work) -> bool:
    """Tell whether the venue may still need time to come to know the new key."""
    birth = work.driver.manifest.propagation_seconds + _BIRTH_MARGIN_SECONDS
    return work.rotation.failures * _BIRTH_POLL_SECONDS < birth


async def _refused(work: Work, error: ExchangeError) -> Rest | None:
    """Judge a refusal of the new key: too early, or wrong for good."""
    r = work.rotation
    answer = liveness.told_by(error)
    if answer is None:
        raise error
    if error.fault in KEY_FAULTS and _is_young(work):
        return await work.defer(_BIRTH_POLL_SECONDS, "The venue does not take the new key yet.")
    if answer.life is Life.OTHER_ADDRESS:
        return await work.park(
            Park.NO_PROOF,
            "The venue refuses the new key from where it was tried: that address is not on its list.",
            "Let egress_proxy leave by an address of ip_allowlist, then: keyturn resume " + r.credential,
        )
    await work.abort(_DOES_NOT_WORK[answer.life])
    return None


def _judge_rights(work: Work, facts: KeyFacts) -> list[str]:
    """Hold what the key may do, and whose it is, against what is declared."""
    entry, r, problems = work.entry, work.rotation, []
    expected = work.driver.grants_for(entry.permissions)
    # What the venue adds by itself is let pass by name; whether it is there or not.
    if more := facts.grants - expected - (entry.accepts & added_by(work.driver.manifest)):
        able = " It could withdraw." if Permission.WITHDRAW in facts.permissions - entry.permissions else ""
        problems.append(f"it can also {', '.join(sorted(more))}{able}")
    if less := expected - facts.grants:
        problems.append(f"it cannot {', '.join(sorted(less))}")
    if not facts.enabled:
        problems.append("it is disabled")
    if r.account_uid and facts.account_uid and facts.account_uid != r.account_uid:
        problems.append("it belongs to another account than the key that it replaces")
    return problems


def _judge_addresses(work: Work, facts: KeyFacts) -> list[str]:
    """Hold the key's address list against the declared one."""
    declared = work.entry.ip_allowlist
    if facts.ip_allowlist == declared:
        return []
    shown = ", ".join(sorted(facts.ip_allowlist or ())) or "none"
    return [f"its IP list is {shown} and {', '.join(sorted(declared)) or 'none'} is declared"]

"""This is where we name the rules of the protocol that a run may break, to see the hole that each of them closes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """
    The protocol as it should be when every field is False; each field takes one rule away.

    The model must find a counterexample for each field, else it is blind there. H1 to H16 are the holes that
    PROTOCOL.md names; H26 to H32 were found with this model (README.md has the traces).
    """

    follow_any: bool = False  # H1: elect follows a flight whatever its stamps
    forget_keeps: bool = False  # H2: forget deletes the entry and leaves the flight's stamps
    share_wait: bool = False  # H3: a second caller of a process joins the first one's wait without a round trip
    stamp_at_publish: bool = False  # H4: the entry gets the stamp that is current when it is published
    counter_stamps: bool = False  # H5: a stamp is a counter that starts again after a loss
    live_reassert: bool = False  # H6: a renewer brings a lost flight back as the live one
    waiter_reasserts: bool = False  # H6: so does a waiter
    missing_stores: bool = False  # H6, H7: publish without a flight stores
    reuse_token: bool = False  # H8: a redelivered message elects itself under its old token
    never_resend: bool = False  # H9: nobody sends a message again
    message_first: bool = False  # H10: the retry message leaves before the flight is released
    taken_drops: bool = False  # H10: a worker that hears `taken` drops the message
    displace_at_once: bool = False  # H11: elect displaces on the first mismatch
    owner_unchecked: bool = False  # H12: publish does not compare the owner
    marker_unread: bool = False  # H14: renew does not look at the outcome first
    assert_unheld: bool = False  # H15: renew asserts what was never held
    elects_twice: bool = False  # H26: elect does not look whether its token was elected before
    retry_elects: bool = False  # H27: a retry whose flight is gone elects itself, with arguments from before
    retrying_unfailable: bool = False  # H28: nobody can fail a retrying flight but the owner of the attempt before
    cancelled_ends: bool = False  # H29: a waiter that never left takes `cancelled` as its result
    leader_unnoted: bool = False  # H30: the leader of `cached` elects without its inbox
    spare_unrenewed: bool = False  # H31: the main process does not renew what its late child elects
    retry_begins: bool = False  # H32: a retry begins a flight whose first claim was lost, with arguments from before

    @property
    def keeps_stamp(self) -> bool:
        """Say whether a busy worker must remember its stamp: only the broken rules use it."""
        return self.missing_stores or self.live_reassert or self.waiter_reasserts

"""Secure aggregation: the coordinator learns the sum of a round's updates and none of them.

Bonawitz et al., "Practical secure aggregation for privacy-preserving machine learning", CCS 2017,
with the neighbourhoods of Bell et al., "Secure single-server aggregation with (poly)logarithmic
overhead", CCS 2020. These modules are pure: they read no file, no clock and no network.

    agreement   keys, what two parties derive of them, and boxes that only one party can open
    shamir      a secret in shares, of which a threshold gives it back
    graph       who shares secrets and masks with whom, and how many shares a secret needs
    terms       how a masked update is made
    context     the digest to which all keys of an attempt are bound
    identity    signatures under the keys of an attempt, and whose of them a party accepts
    authority   certificates of identities, by a consortium's own authority
    fixed_point weights, counts and metrics as whole numbers modulo a power of two
    streams     pseudo-random words, of which masks are made
    party       a client's part: advertise, share, mask, answer; and what it refuses
    recovery    the coordinator's part: which streams it has to take off a sum
    unmasking   the sum, once these are known
    helper      the other mode: a second operator knows the masks
"""

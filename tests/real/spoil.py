"""Small ways to spoil a store's content, each of which a comparison must notice."""

import copy

from stores import STALE_BITS, Histogram


def ways_to_spoil(store):
    ways = [lose_series, invent_series, lose_stale_marker, move_sample, change_sample]
    if any(isinstance(value, Histogram) for samples in store.values() for _, value in samples_of(samples)):
        ways.append(change_histogram)
    return ways


def spoiled(store, way):
    copied = {labels: copy.copy(samples) for labels, samples in store.items()}
    way(copied)
    return copied


def some_series(store, wanted):
    """The first series that has a sample for which `wanted`, with that sample's timestamp."""
    for labels in sorted(store):
        for timestamp, value in samples_of(store[labels]):
            if wanted(value):
                return labels, timestamp
    raise LookupError("no sample to spoil")


def samples_of(samples):
    return samples.items() if isinstance(samples, dict) else samples


def replace_sample(store, labels, timestamp, others):
    """Puts `others`, a dict by timestamp and possibly empty, in the place of a sample."""
    if isinstance(store[labels], dict):
        del store[labels][timestamp]
        store[labels].update(others)
    else:
        kept = [s for s in store[labels] if s[0] != timestamp]
        store[labels] = sorted(kept + list(others.items()), key=lambda sample: sample[0])


def lose_series(store):
    del store[min(store)]


def invent_series(store):
    labels = min(store)
    store[labels + (("zz", "invented"),)] = store[labels]


def lose_stale_marker(store):
    labels, timestamp = some_series(store, lambda v: v is None or v == STALE_BITS)
    replace_sample(store, labels, timestamp, {})


def move_sample(store):
    labels, timestamp = some_series(store, lambda v: True)
    value = dict(samples_of(store[labels]))[timestamp]
    replace_sample(store, labels, timestamp, {timestamp + 1: value})


def change_sample(store):
    """The smallest change: one bit of a float; for a store that rounds, one part in 10^9."""
    labels, timestamp = some_series(store, lambda v: v not in (None, STALE_BITS, 0, 0.0) and changeable(v))
    value = dict(samples_of(store[labels]))[timestamp]
    replace_sample(store, labels, timestamp, {timestamp: value ^ 1 if isinstance(value, int) else value * (1 + 1e-9)})


def change_histogram(store):
    """One bucket counts one more, or the least bit more."""
    labels, timestamp = some_series(store, lambda v: isinstance(v, Histogram) and v.positive)
    histogram = store[labels][timestamp]
    (index, count), *others = histogram.positive
    store[labels][timestamp] = histogram._replace(positive=((index, count + 1), *others))


def changeable(value):
    return isinstance(value, int) or (isinstance(value, float) and 1e-100 < abs(value) < 1e300)

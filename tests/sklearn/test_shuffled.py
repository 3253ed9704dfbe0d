"""The order of samples is the one that NumPy's RandomState would make."""

import numpy as np
import pytest

from deltajit.sklearn import samples


@pytest.mark.parametrize("n", [0, 1, 2, 3, 64, 65, 1000])
@pytest.mark.parametrize("bits", [np.random.MT19937, np.random.PCG64])
@pytest.mark.parametrize("most", [samples.MOST, 2])
def test_orders_and_draws_are_those_of_numpy(n, bits, most, monkeypatch):
    monkeypatch.setattr(samples, "MOST", most)
    theirs, ours = (np.random.RandomState(bits(3)) for _ in range(2))
    order = np.arange(n, dtype=np.int32)[::-1].copy()
    for _ in range(3):
        result = samples.shuffled(order, ours)
        theirs.shuffle(order)
        assert np.array_equal(result, order)
    assert theirs.randint(2**31) == ours.randint(2**31)

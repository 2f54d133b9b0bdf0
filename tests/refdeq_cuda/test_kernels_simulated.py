"""Every kernel of the op level in the simulator: the bits of the reference, in several orders of threads."""

import pytest
from kernel_checks import CHECKS
from refdeq_cuda.simulated_device import SimulatedDevice


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("check", CHECKS)
def test_kernels_have_the_bits_of_the_reference(check, seed):
    CHECKS[check](SimulatedDevice(seed=seed))

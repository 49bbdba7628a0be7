"""Threads share a call: every part is done once, whichever threads come, in forks and for many callers at once."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from prunecell import native

N_THREADS = [2, 3, 8, 300]


def rounded(n_rows, team):
    """What a kernel makes of a weight whose rows it shares, and the latents that it takes out of it.

    A row that is done twice loses its latents.
    """
    weight = torch.arange(n_rows * 5).reshape(n_rows, 5) + 0.25
    latent, step = torch.full_like(weight, torch.nan), torch.ones(1)
    given = native.Latents(
        weight=weight.data_ptr(),
        latent=latent.data_ptr(),
        steps=step.data_ptr(),
        n_rows=n_rows,
        n_inputs=5,
        n_positions=1,
    )
    given.one_step = True
    assert native.library().pc_leave_latents(given.address, team) == 0
    return weight, latent


def is_right(n_rows, results):
    expected = torch.arange(n_rows * 5).reshape(n_rows, 5)
    return torch.equal(results[0], expected.float()) and torch.equal(results[1], expected + 0.25)


@pytest.mark.parametrize("n_rows", [0, 1, 2, 7, 100, 5000])
@pytest.mark.parametrize("n_threads", [1, *N_THREADS])
def test_every_part_is_done_once(n_rows, n_threads):
    assert is_right(n_rows, rounded(n_rows, native.team(n_threads)))


@pytest.mark.parametrize("n_rows", [1, 2, 7, 100])
@pytest.mark.parametrize("n_threads", N_THREADS)
def test_without_openmp_threads_are_started(n_rows, n_threads):
    assert is_right(n_rows, rounded(n_rows, native.Team(None, None, 0, n_threads).address))


@pytest.mark.parametrize("n_rows", [2, 7, 100])
@pytest.mark.parametrize("n_threads", [2, 3, 8])
def test_one_thread_does_the_shares_of_those_that_do_not_come(n_rows, n_threads, lone_team):
    for number in range(n_threads):
        assert is_right(n_rows, rounded(n_rows, lone_team(n_threads, number=number).address))


def test_many_callers_at_once():
    wrong = []

    def call(n_rows):
        wrong.extend(n_rows for _ in range(50) if not is_right(n_rows, rounded(n_rows, native.team(3))))

    callers = [threading.Thread(target=call, args=(n_rows,)) for n_rows in range(3, 11)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_threads_of_torch_are_found():
    if "OpenMP" not in torch.__config__.parallel_info().split("ATen parallel backend:")[1]:
        pytest.skip("this torch has threads of another kind")
    team = native.Team.from_address(native.team(2))
    assert team.run
    assert team.own_number


CODE = """if True:
    import os, sys, torch
    from prunecell import native
    from prunecell.sparse.compress import compress
    from prunecell.sparse.layers import SparseLinear
    torch.set_num_threads(2)
    layer = SparseLinear(compress(torch.randn(700, 500)), None)
    inputs = [torch.randn(n_samples, 500) for n_samples in (1, 64, 200)]
    with torch.inference_mode():
        expected = [bytes(layer(x).untyped_storage()) for x in inputs]
        torch.randn(700, 500) @ torch.randn(500, 700)  # torch's threads are there now
        {fork}
        os._exit(7 if [bytes(layer(x).untyped_storage()) for x in inputs] == expected else 1)
"""
FORK = "if child := os.fork(): sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"


@pytest.mark.parametrize(
    ("fork", "environment"), [(FORK, {}), ("", {"OMP_THREAD_LIMIT": "1"}), ("", {"OMP_DYNAMIC": "1"})]
)
def test_a_forked_process_and_one_of_few_threads_compute_too(fork, environment):
    command = [sys.executable, "-W", "ignore", "-c", CODE.format(fork=fork)]
    done = subprocess.run(command, timeout=60, env=os.environ | environment, check=False)
    assert done.returncode == 7

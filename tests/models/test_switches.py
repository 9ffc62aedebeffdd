"""What torch has one switch for in a whole process is as it was, once we are done with it."""

import pytest
import torch
from helpers import pipelines
from helpers.tiny import PROMPTS

from vgrpo.models.attention import short_attention, suitable_attention
from vgrpo.models.compiled import MAX_GRAPHS, compile_blocks
from vgrpo.models.loading import make_policy

CPU = torch.device("cpu")


def switches():
    cuda = torch.backends.cuda
    kernels = cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled(), cuda.cudnn_sdp_enabled()
    return cuda.fp16_bf16_reduction_math_sdp_allowed(), *kernels


@pytest.mark.parametrize("allowed", [False, True])
def test_attention_is_as_it_was_also_when_nested_and_after_an_error(allowed):
    own = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(allowed)
    try:
        before = switches()
        with suitable_attention(CPU, torch.bfloat16, 30):
            inside = switches()
            with pytest.raises(RuntimeError), short_attention():
                raise RuntimeError
            assert switches() == inside
        assert inside == (True, False, False, True, False)
        assert switches() == before
        for others in ((torch.device("cuda"), torch.bfloat16, 30), (CPU, None, 30), (CPU, torch.bfloat16, 270)):
            with suitable_attention(*others):
                assert switches() == before
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(own)


def test_the_limit_of_graphs_is_raised_only_while_a_block_runs():
    torch._dynamo.reset()
    before, seen = torch._dynamo.config.recompile_limit, []
    policy = make_policy(pipelines.sana(), max_sequence_length=16, resolution=32)

    def back_end(graph, _):
        seen.append(torch._dynamo.config.recompile_limit)
        return graph

    compile_blocks(policy.module, backend=back_end)
    assert torch._dynamo.config.recompile_limit == before
    with torch.no_grad():
        policy.velocity(torch.zeros(1, *policy.latent_shape), torch.full((1,), 0.5), policy.encode(PROMPTS[:1]))
    assert set(seen) == {MAX_GRAPHS}
    assert torch._dynamo.config.recompile_limit == before
    torch._dynamo.reset()

"""Which processes share a network's weights."""

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from vgrpo.core.processes import ALONE, Processes
from vgrpo.models.policy import Policy
from vgrpo.models.precision import device_of
from vgrpo.models.sharding import Spread, spread
from vgrpo.models.weight_sets import trainable
from vgrpo.support.checks import require
from vgrpo.support.launched import local_size
from vgrpo.training.processes.peers import Peers
from vgrpo.training.processes.together import check_same_weights
from vgrpo.training.settings.config import Config


def shards(config: Config, processes: Processes) -> bool:
    """Whether weights are spread: one process has nobody to share them with."""
    return config.memory.shard != "none" and processes.size > 1


def check_shards(config: Config, processes: Processes) -> None:
    """Raise ValueError for settings with which weights cannot be spread."""
    if not shards(config, processes):
        return
    require(
        config.finetune == "lora" or config.update.optimizer == "adamw",
        f"memory.shard={config.memory.shard}: the moments of {config.update.optimizer} cannot be spread; take adamw",
    )
    if config.memory.shard == "hybrid":
        here = local_size()
        require(
            here > 1 and processes.size % here == 0,
            f"memory.shard=hybrid spreads weights over the processes of a machine, and LOCAL_WORLD_SIZE={here} of "
            f"{processes.size}: it needs several, and as many on each; take full",
        )


def spread_weights(policy: Policy, config: Config, processes: Processes) -> None:
    """Spread the network, which may be in the CPU's memory until now, and set `policy.spread`, once all is set up."""
    if not shards(config, processes):
        return
    assert isinstance(processes, Peers)
    check_same_weights(trainable(policy.module).values(), processes)  # of spread ones each process has its own part
    mesh = _mesh(config, processes, device_of(config.device).type)
    adapter = set() if config.finetune == "full" else set(trainable(policy.module).values())
    sharers, replicas = Peers(mesh.get_group(-1), processes.signs), ALONE
    if mesh.ndim == 2:
        replicas = Peers(mesh.get_group(0), processes.signs)
    kind = Spread(policy.module, sharers, replicas, gather=config.memory.gather)
    spread(policy.module, mesh, adapter)
    policy.spread = kind


def _mesh(config: Config, processes: Peers, device: str) -> DeviceMesh:
    """[processes], or [machines, processes of each]."""
    if config.memory.shard == "hybrid" and local_size() < processes.size:
        machines = processes.size // local_size()
        return init_device_mesh(device, (machines, local_size()), mesh_dim_names=("replicate", "shard"))
    group = processes.group or dist.group.WORLD
    assert group is not None
    return DeviceMesh.from_group(group, device)

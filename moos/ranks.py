"""One worker's place among those that train together; plain `torch.distributed`."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from moos.errors import ConfigError

Strategy = Literal["ddp", "fsdp2"]


@dataclass(frozen=True, slots=True)
class Ranks:
    """A worker's rank, how many there are, and its device; alone without a process group."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all ranks, in place; every rank must call it."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in order of rank, on every rank."""
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, value)
        return gathered

    def wrap(self, model: nn.Module, strategy: Strategy) -> nn.Module:
        """The model on this rank's device, its gradients averaged over the ranks in `backward`.

        `fsdp2` shards parameters, gradients and optimizer state over the ranks, layer by layer, in
        place; a model that fits a device has no use for it.

        Raises:
            ConfigError: FSDP2 finds no list of layers to shard by.
        """
        model.to(self.device)
        if self.world_size == 1:
            return model
        if strategy == "ddp":
            devices = [self.device] if self.device.type == "cuda" else None
            return DistributedDataParallel(model, device_ids=devices)
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        layers = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
        if not layers:
            raise ConfigError("strategy=fsdp2 shards by encoder layers, and finds none; use ddp")
        mesh = init_device_mesh(self.device.type, (self.world_size,))
        for layer in layers[0]:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model

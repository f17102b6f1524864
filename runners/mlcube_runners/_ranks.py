"""A task that starts on several nodes at once: what each of its ranks is told of itself and of the others."""

from mlcube.invocation import Invocation, Word

__all__ = ["one_node_only", "rank_environment"]


def one_node_only(invocation: Invocation) -> tuple[str, str] | None:
    """Why whoever starts tasks on one machine refuses it, and what to do."""
    nodes = invocation.resources.nodes
    if nodes is None:
        return None
    return (
        f"task `{invocation.task}` starts on {nodes} nodes at once, which only runners `slurm` and `kubernetes` can do",
        f"use a platform of one of these, or `-P tasks.{invocation.task}.resources.nodes=1`",
    )


def rank_environment(nodes: int, *, rank: str, address: str, port: str) -> dict[str, Word]:
    """The variables of one rank: cube's own, those of torch's `env://`, and those that `torchrun` takes as options.

    >>> sorted(rank_environment(2, rank="1", address="a", port="1"))[:3]
    ['CUBE_MASTER_ADDRESS', 'CUBE_MASTER_PORT', 'CUBE_RANK']
    """
    values = {
        "CUBE_RANK": rank,
        "CUBE_WORLD_SIZE": str(nodes),
        "CUBE_MASTER_ADDRESS": address,
        "CUBE_MASTER_PORT": port,
        # What a script finds that torchrun has started: one process for each node.
        "RANK": rank,
        "WORLD_SIZE": str(nodes),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
        # What torchrun takes for its options, and then starts as many processes on each node as it likes.
        "PET_NNODES": str(nodes),
        "PET_NODE_RANK": rank,
        "PET_MASTER_ADDR": address,
        "PET_MASTER_PORT": port,
    }
    return {name: Word(value) for name, value in values.items()}

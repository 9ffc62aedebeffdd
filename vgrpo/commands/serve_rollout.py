"""`vgrpo serve-rollout`: images for training runs, drawn by a process of its own."""

from vgrpo.commands.options import asks_for_help, parse, take_name
from vgrpo.sampling.served.server import RolloutServer
from vgrpo.sampling.served.settings import ServeRolloutConfig

DESCRIPTION = "Draw images for training runs, with the model's settings that they have."


def run(words: list[str]) -> None:
    words, name = take_name(words, "")
    if not name.strip() and not asks_for_help(words):
        raise ValueError("name the model first, e.g. vgrpo serve-rollout sprites")
    config = parse(
        ServeRolloutConfig,
        words if asks_for_help(words) else ["--model", name, *words],
        prog="vgrpo serve-rollout MODEL",
        description=DESCRIPTION,
    )
    serve(config)


def serve(config: ServeRolloutConfig) -> None:
    """Answer until interrupted."""
    server = RolloutServer(config)
    print(
        f"{config.model} at http://{config.host}:{server.server_port}; train with --rollout-workers http://HOST:PORT",
        flush=True,
    )
    with server:
        server.serve_forever()

"""`vgrpo serve-reward`: a reward in a process of its own, for `--reward remote=http://HOST:PORT`."""

from vgrpo.commands.options import asks_for_help, parse, take_name
from vgrpo.rewards.served.server import make_server
from vgrpo.rewards.served.settings import ServeConfig

DESCRIPTION = "Serve a reward to training runs."


def run(words: list[str]) -> None:
    words, name = take_name(words, "")
    if not name.strip() and not asks_for_help(words):
        raise ValueError("name the reward first, e.g. vgrpo serve-reward pickscore")
    serve(name, parse(ServeConfig, words, prog="vgrpo serve-reward NAME", description=DESCRIPTION))


def serve(name: str, config: ServeConfig) -> None:
    """Answer until interrupted."""
    server = make_server(name, config)
    print(f"{name} at http://{config.host}:{server.server_port}; train with --reward remote=http://HOST:PORT", flush=True)
    with server:
        server.serve_forever()

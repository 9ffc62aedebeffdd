"""Two "nodes" on one machine: network namespaces with a cable between them that can be cut."""

import ctypes
import multiprocessing
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress

CLONE_NEWNET = 0x40000000
ADDRESSES = ("10.77.0.1", "10.77.0.2")
CABLES = ("vg0", "vg1")


def why_not():
    """Why this machine lets nobody make namespaces, or nothing."""
    if shutil.which("ip") is None:
        return "there is no `ip`: install Debian's iproute2"
    name = f"vgrpo-try-{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode:
        return f"ip netns add: {tried.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


class Nodes:
    """Their names, and what a person with a hand on the cable can do."""

    def __init__(self):
        self.names = tuple(f"vgrpo-{os.getpid()}-{index}" for index in range(2))

    def __enter__(self):
        for name in self.names:
            ip("netns", "add", name)
        ip("link", "add", CABLES[0], "netns", self.names[0], "type", "veth", "peer", "name", CABLES[1], "netns", self.names[1])
        for name, cable, address in zip(self.names, CABLES, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            ip("-n", name, "link", "set", "lo", "up")
        self.plug()
        return self

    def __exit__(self, *_):
        for name in self.names:
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)

    def plug(self):
        for name, cable in zip(self.names, CABLES, strict=True):
            ip("-n", name, "link", "set", cable, "up")

    def cut(self):
        ip("-n", self.names[1], "link", "set", CABLES[1], "down")

    def start(self, index, log, function, *args):
        """Run `function(*args)` on a node, in a process that leads its own group; what it prints goes to `log`."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["vgrpo.training.loop", "helpers.tiny"])
        process = context.Process(target=_on_node, args=(self.names[index], log, function, args))
        process.start()
        return process


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _on_node(name, log, function, args):
    os.setsid()
    enter(name)
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)
    function(*args)


def enter(name):
    """This thread, and what it starts, is on the node from now on."""
    with open(f"/run/netns/{name}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def on_node(name):
    """This thread is on the node for a while."""
    with open("/proc/thread-self/ns/net") as home:
        enter(name)
        try:
            yield
        finally:
            ctypes.CDLL(None).setns(home.fileno(), CLONE_NEWNET)

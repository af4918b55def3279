"""moto as a server for one local AWS, or a nursery of such servers for a whole test run.

    moto_server.py                  prints its port, serves until its standard input closes
    moto_server.py COMMAND...       runs the command, and forks a server for every connection to the socket that
                                    the command finds in BLUEGREEN_MOTO_NURSERY: the server writes its port there
                                    and serves until the connection closes

A server binds a port itself, so that nobody can take it in between, and cannot outlive whoever it was started for.
Loading moto takes most of a second: the nursery does it once.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile

from moto.core.types import Base64EncodedString
from moto.ec2.models.launch_templates import LaunchTemplateVersion
from moto.moto_server.threaded_moto_server import ThreadedMotoServer


def user_data(version):
    """User data of a template's later versions is a plain string in moto, which its own launch of instances doesn't take."""
    text = version.data.get("UserData")
    return Base64EncodedString(text) if isinstance(text, str) else text


LaunchTemplateVersion.user_data = property(user_data)


def serve(say, wait):
    """Starts a server, says its port, and ends this process once the waiting is over."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    say(b"%d\n" % server.get_host_and_port()[1])
    wait()
    os._exit(0)


def serve_one(connection):
    """In the child: a server for whoever is at the other end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    # The forks must not draw the same ids.
    random.seed()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    serve(connection.sendall, lambda: connection.recv(1))


def nursery(command):
    """Runs a command beside the servers that it asks for, and ends as it ends."""
    from moto.backends import get_backend

    # Otherwise each server would load them at its first calls.
    for service in ("autoscaling", "cloudwatch", "ec2", "ecs", "elbv2", "iam", "sns", "ssm", "sts"):
        get_backend(service)
    servers = []
    with tempfile.TemporaryDirectory(prefix="bluegreen-nursery-") as folder:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(folder, "socket"))
        listener.listen(64)
        child = subprocess.Popen(command, env=os.environ | {"BLUEGREEN_MOTO_NURSERY": listener.getsockname()})
        # A terminal tells the whole group of Ctrl-C, the command too.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        listener.settimeout(0.2)
        while child.poll() is None:
            servers = [pid for pid in servers if os.waitpid(pid, os.WNOHANG) == (0, 0)]
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            # There is one thread here, so that what is forked is whole.
            servers.append(os.fork() or serve_one(connection))
            connection.close()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    os.environ["MOTO_ECS_SERVICE_RUNNING"] = "2"
    if sys.argv[1:]:
        sys.exit(nursery(sys.argv[1:]))
    serve(lambda line: os.write(1, line), lambda: sys.stdin.buffer.read())

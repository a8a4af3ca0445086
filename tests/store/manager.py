# A small service manager, as far as sd_notify(3) and sd_listen_fds(3) go: it hears the service out,
# keeps its descriptors, and hands them to the next one.
#
#   manager.py <notify socket> <command>...
#
# Orders come on stdin, one a line; what happens goes to stdout, a line each.

import fcntl
import hashlib
import os
import select
import signal
import socket
import struct
import sys
import tempfile
import threading

# Of these there is one or two, by whether the machine has ::1.
PORTS = "pizauth-port", "pizauth-proxy"

path, command = sys.argv[1], sys.argv[2:]
line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
line.bind(path)
store = []  # What is kept: names and descriptors.
states = []  # Every state that there ever was, to look at.
stays = False  # There would be too many.
child = 0
heard = threading.Semaphore(0)


def say(*words):
    print(*words, flush=True)


def kind(name):
    """What is called so, without its number."""
    return name.rsplit("-", 1)[0]


def hear():
    ends = False  # The service has said so.
    while True:
        text, fds, _, _ = socket.recv_fds(line, 4096, 16)
        words = dict(word.split("=", 1) for word in text.decode().split())
        if "FDSTORE" in words:
            name = words["FDNAME"]
            # As systemd does: what is there isn't stored again, and keeps its name.
            there = {os.fstat(fd).st_ino for _, fd in store}
            known = [fd for fd in fds if os.fstat(fd).st_ino in there]
            fds = [fd for fd in fds if fd not in known]
            for fd in known:
                os.close(fd)
            store.extend((name, fd) for fd in fds)
            if kind(name) == "pizauth-state" and not stays:
                states.extend(os.dup(fd) for fd in fds)
        elif "FDSTOREREMOVE" in words:
            gone = [entry for entry in store if entry[0] == words["FDNAME"]]
            discard(gone)
            if kind(words["FDNAME"]) not in PORTS:
                say("removed", len(gone), kind(words["FDNAME"]))
            if not ends and not any(kind(name) == "pizauth-state" for name, _ in store):
                say("nothing is left should it be killed now")
        elif "HEARD" in words:
            heard.release()
        elif "BARRIER" in words:
            for fd in fds:
                os.close(fd)
        else:
            ends = "STOPPING" in words
            say("heard", text.decode().split()[0])


def discard(entries):
    for entry in list(entries):
        os.close(entry[1])
        store.remove(entry)


def start():
    global child
    child = os.fork()
    if child:
        return
    # Out of the way of the numbers that they are to have.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for _, fd in store]
    for number, fd in enumerate(high):
        os.dup2(fd, 3 + number)
    os.closerange(3 + len(store), 1000)
    os.environ["NOTIFY_SOCKET"] = path
    os.environ["FDSTORE"] = "16"
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(store))
    os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in store)
    os.execvp(command[0], command)


def stop():
    os.kill(child, signal.SIGTERM)
    wait()


def wait():
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # First, whatever it has said before.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        own.sendto(b"HEARD=1", path)
    heard.acquire()
    kinds = [kind(name) for name, _ in store]
    ports = sorted({name for name in kinds if name in PORTS})
    say("ended", status, *ports, *sorted(name for name in kinds if name not in ports))


def kill(which):
    """Kills the service's first process, or all of them, and waits for the end of all."""
    with open(f"/proc/{child}/task/{child}/children") as file:
        others = [int(pid) for pid in file.read().split()]
    watched = [os.pidfd_open(pid) for pid in others]
    for pid in [child, *(others if which == "all" else [])]:
        os.kill(pid, signal.SIGKILL)
    for fd in watched:
        select.select([fd], [], [])
        os.close(fd)
    wait()


def stay():
    """Starts the service again whenever it ends, until there is another order."""
    global stays
    stays = True
    while True:
        watched = os.pidfd_open(child)
        ready, _, _ = select.select([watched, sys.stdin], [], [])
        os.close(watched)
        if sys.stdin in ready:
            return
        wait()
        start()


def spoil(how):
    """Puts something else in the place of the state."""
    discard([entry for entry in store if kind(entry[0]) == "pizauth-state"])
    if how == "file":
        file = tempfile.TemporaryFile()
        fd = os.dup(file.fileno())
    else:
        fd = os.memfd_create("state", os.MFD_ALLOW_SEALING)
    body = b"pizauth state 999\n{}"
    head = struct.pack("<QQ", 1, len(body))
    os.write(fd, head + hashlib.sha256(head + body).digest() + body)
    if how == "version":
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
    store.append(("pizauth-state-0", fd))


threading.Thread(target=hear, daemon=True).start()
start()
for order in sys.stdin:
    match order.split():
        case ["restart"]:
            stop()
            start()
        case ["stop"]:
            stop()
            discard(store)
            say("stopped")
        case ["pause"]:
            stop()
        case ["start"]:
            start()
        case ["kill", which]:
            kill(which)
        case ["wait"]:
            wait()
        case ["stay"]:
            stay()
        case ["spoil", how]:
            spoil(how)
            say("spoilt")
        case ["look"]:
            sizes = [os.fstat(fd).st_size for fd in states]
            clear = [os.pread(fd, size, 0).strip(b"\0") for fd, size in zip(states, sizes)]
            modes = {oct(os.fstat(fd).st_mode & 0o777) for fd in states}
            say("states", len(states), "secrets", len([text for text in clear if text]), *modes)
stop()

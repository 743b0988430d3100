#!/usr/bin/env python3
"""Ask the guest API of LXD, Incus or devlxd from inside a container.

    guest.py read            print each key and its value
    guest.py wait KEY        wait until a key exists, and print its value
    guest.py follow          print the configuration, and then what changes

Python's standard library is all it needs.
"""
import http.client
import json
import os
import socket
import sys
import time
import urllib.parse

SOCKET = os.environ.get("DEVLXD_SOCKET", "/dev/lxd/sock")


class Connection(http.client.HTTPConnection):
    """HTTP over the Unix socket. There are no proxies on it."""

    def __init__(self, timeout):
        super().__init__("lxd", timeout=timeout)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


def retry(ask):
    """Call until the server is there and knows the container: 500 is the status to try again on."""
    pause = 0.1
    while True:
        try:
            status, answer = ask()
            if status < 500:
                return status, answer
        except OSError:  # it is restarting
            pass
        except http.client.HTTPException:  # it went away in the middle
            pass
        time.sleep(pause)
        pause = min(2 * pause, 5)


def get(path):
    """Return the status and the body of GET path."""

    def ask():
        connection = Connection(timeout=60)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    return retry(ask)


def get_key(key):
    """Return the value of a key, or None."""
    status, body = get("/1.0/config/" + urllib.parse.quote(key, safe=""))
    if status == 404:
        return None
    if status != 200:
        sys.exit(f"{key}: {status} {body.decode().strip()}")
    return body.decode(errors="surrogateescape")


def config():
    """Return all keys and values."""
    status, body = get("/1.0/config")
    if status != 200:
        sys.exit(f"config: {status} {body.decode().strip()}")
    keys = [path.removeprefix("/1.0/config/") for path in json.loads(body)]
    return {key: value for key in keys if (value := get_key(key)) is not None}


def events(types="config,device"):
    """Yield events for ever, and None where the configuration has to be read (again).

    The subscription stands when None comes, so between what is read then and
    the events that follow there is no gap.
    """
    since = None
    while True:

        def subscribe():
            connection = Connection(timeout=60)
            query = {"type": types, "position": "true"} | ({"since": since} if since else {})
            connection.connect()
            stream = connection.sock
            connection.request("GET", "/1.0/events?" + urllib.parse.urlencode(query))
            response = connection.getresponse()
            stream.settimeout(None)  # nothing may happen for days
            return response.status, response

        status, stream = retry(subscribe)
        if status == 410:  # too much has happened, or the server was restarted
            since = None
            continue
        if status != 200:
            sys.exit(f"events: {status} {stream.read().decode().strip()}")
        start = stream.getheader("Devlxd-Position")  # LXD and Incus have no positions
        if since is None or start is None:
            since = start
            yield None
        try:
            for line in stream:
                if not line.endswith(b"\n"):
                    break  # cut: it comes again
                event = json.loads(line)
                since = event.get("position")
                yield event
        except (OSError, http.client.HTTPException):
            pass


def wait(key):
    """Return the value of a user.* key as soon as there is one."""
    for event in events("config"):
        if event is None or event["metadata"]["key"] == key:
            value = get_key(key)
            if value is not None:
                return value


def follow():
    for event in events("config"):
        if event is None:
            for key, value in config().items():
                print("read", key, value, flush=True)
        else:
            change = event["metadata"]
            print("changed", change["key"], change["value"], flush=True)


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="surrogateescape")
    match sys.argv[1:]:
        case ["read"]:
            for key, value in config().items():
                print(key, value)
        case ["wait", key]:
            print(wait(key))
        case ["follow"]:
            follow()
        case _:
            sys.exit(__doc__)

"""Runs a Python module's server on loopback, where it would listen on every address: loopback.py MODULE [ARGUMENT …]"""

import runpy
import socket
import sys


class Loopback(socket.socket):
    def bind(self, address):
        super().bind(("::ffff:127.0.0.1", *address[1:]) if address[0] == "::" else address)


socket.socket = Loopback
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")

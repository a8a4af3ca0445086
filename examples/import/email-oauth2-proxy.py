#!/usr/bin/env python3
"""Takes a sign-in over from email-oauth2-proxy:

    email-oauth2-proxy.py <account> <emailproxy.config> <address>

The proxy has encrypted its tokens with the password that the mail program sends to it, which is
asked for here. It takes the Python package cryptography, which the proxy needs as well.
"""

import base64
import configparser
import getpass
import json
import subprocess
import sys

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

account, path, address = sys.argv[1:]
config = configparser.RawConfigParser()
with open(path, encoding="utf-8") as file:
    config.read_file(file)
if not config.has_option(address, "refresh_token"):
    sys.exit(f"{path} has no refresh_token of {address}")
section = config[address]
password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().strip("\n")
key = PBKDF2HMAC(
    algorithm=hashes.SHA256(),
    length=32,
    salt=base64.b64decode(section["token_salt"]),
    # Files of old have no number.
    iterations=int(section.get("token_iterations", "100000")),
).derive(password.encode())
try:
    token = Fernet(base64.urlsafe_b64encode(key)).decrypt(section["refresh_token"].encode()).decode()
except InvalidToken:
    sys.exit("the password isn't that of the tokens")
command = ["pizauth", "import", account]
sys.exit(subprocess.run(command, input=json.dumps({"refresh_token": token}), text=True).returncode)

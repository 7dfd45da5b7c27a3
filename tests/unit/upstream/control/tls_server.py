#!/usr/bin/env python3
"""
tests/unit/upstream/control/tls_server.py DIR PUBLIC_KEY_HEX - a control plane behind TLS, for test_control_tls.

Makes DIR/ca.pem, which its certificate for 127.0.0.1 is signed by, and DIR/other.pem, which it is not. Prints its port. Knows one key, and
believes only tokens that PyJWT finds good: a verifier that is not ours. `version` counts the connections. Ends with its input.
"""
import datetime
import http.server
import ipaddress
import json
import os
import ssl
import sys
import threading

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

DIR, PUBLIC = sys.argv[1], Ed25519PublicKey.from_public_bytes(bytes.fromhex(sys.argv[2]))
FINGERPRINT = "SHA256:qARteTb2oz7ABVRSXf/ocAxO+Pv8UOQSflvmYv1Lqv0"
connections = 0


def make_certificate(name, issuer_name, issuer_key, key, is_ca):
    now = datetime.datetime.now(datetime.timezone.utc)
    b = (x509.CertificateBuilder().subject_name(named(name)).issuer_name(named(issuer_name)).public_key(key.public_key())
         .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
         .not_valid_after(now + datetime.timedelta(days=1))
         .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True))
    if not is_ca:
        b = b.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    return b.sign(issuer_key, hashes.SHA256())


def named(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def write(name, *things):
    with open(f"{DIR}/{name}", "wb") as f:
        for thing in things:
            if isinstance(thing, x509.Certificate):
                f.write(thing.public_bytes(serialization.Encoding.PEM))
            else:
                f.write(thing.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                            serialization.NoEncryption()))


def make_certificates():
    ca_key, key, other_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    write("ca.pem", make_certificate("test CA", "test CA", ca_key, ca_key, True))
    write("other.pem", make_certificate("other CA", "other CA", other_key, other_key, True))
    write("server.pem", make_certificate("server", "test CA", ca_key, key, False), key)


def token_fault(token):
    try:
        if jwt.get_unverified_header(token) != {"alg": "EdDSA", "typ": "JWT"}:
            return "header"
        claims = jwt.decode(token, PUBLIC, algorithms=["EdDSA"], audience="ringgate-control",
                            options={"require": ["iss", "aud", "iat", "nbf", "exp", "jti"]})
    except jwt.PyJWTError as e:
        return f"{type(e).__name__}: {e}"
    if claims["iss"] != "gateway-1" or claims["exp"] - claims["iat"] != 60:
        return "claims"
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        global connections
        connections += 1
        super().setup()

    def do_GET(self):
        fault = token_fault(self.headers.get("X-Internal-Token", ""))
        if fault:
            status, body = 401, {"success": False, "error": {"code": "unauthorized", "message": fault}}
        else:
            status, body = 200, {"success": True, "data": {
                "fingerprint_sha256": FINGERPRINT, "version": connections, "grants": [{"team_id": "t", "user_id": "u"}]}}
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that does not trust us hangs up


def main():
    make_certificates()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{DIR}/server.pem")
    server = Server(("127.0.0.1", 0), Handler)
    # Each handshake on its connection's own thread: a client that hangs must not keep others out.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    os._exit(0)


main()

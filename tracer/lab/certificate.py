"""A PUBLIC demonstration key and its self-signed certificate for demo.example, valid until 2126.

Everybody can read this key, so it protects nothing. It lets the lab's server speak TLS to the lab's own clients inside
private network namespaces, on hosts without a tool that makes certificates. Never use it elsewhere.
"""

from __future__ import annotations

DEMO_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjz8ZcODc7DXOwXf5
/TlgYECpY169JoPhEyTHfe0udBuhRANCAAQiGA3nZ+ne02cifniu2wgr1enoyukM
ebALhZXTksrXbG+C+mKa28RCqCCQnL0irftC7do88GD2MNY4xhX7LQSS
-----END PRIVATE KEY-----
"""

DEMO_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBrjCCAVSgAwIBAgIUX/+3viPjWLtKBKX/sE8u1DYHez4wCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMZGVtby5leGFtcGxlMCAXDTI2MTEyMzA4NDkxNloYDzIxMjYx
MDMwMDg0OTE2WjAXMRUwEwYDVQQDDAxkZW1vLmV4YW1wbGUwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAAQiGA3nZ+ne02cifniu2wgr1enoyukMebALhZXTksrXbG+C
+mKa28RCqCCQnL0irftC7do88GD2MNY4xhX7LQSSo3wwejAdBgNVHQ4EFgQUiGrU
Lt8lUvtheF9cmlwfkBGn4QQwHwYDVR0jBBgwFoAUiGrULt8lUvtheF9cmlwfkBGn
4QQwDwYDVR0TAQH/BAUwAwEB/zAnBgNVHREEIDAeggxkZW1vLmV4YW1wbGWCDiou
ZGVtby5leGFtcGxlMAoGCCqGSM49BAMCA0gAMEUCIG9HnKh4wVYU1cg6vw5L6jL0
+m6+oLJPJz2H8d4+K/mYAiEAuHYR0ai8NDk6SrT02yE+QZUT5a5StV8kQnobNUPf
L1M=
-----END CERTIFICATE-----
"""

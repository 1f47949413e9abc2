"""A real TLS server: nginx with Fast Open on port 443."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.netbox import NetBox, wait_until
from tests.support.patience import PATIENCE_S

NAME = "shop.example"


@contextmanager
def nginx(box: NetBox, folder: Path) -> Iterator[int]:
    """A TLS server on port 443 with Fast Open, its files in `folder`; its process."""
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout key -out cert"
    subprocess.run([*make.split(), "-subj", f"/CN={NAME}"], cwd=folder, check=True, capture_output=True)
    temporary = "\n".join(f"  {kind}_temp_path {folder}/{kind};" for kind in
                          ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))  # fmt: skip
    (folder / "nginx.conf").write_text(
        f"""daemon off;
master_process off;
user root;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off;
{temporary}
  server {{
    listen 443 ssl fastopen=256;
    listen [::]:443 ssl fastopen=256;
    ssl_certificate {folder}/cert;
    ssl_certificate_key {folder}/key;
    location / {{ return 204; }}
  }}
}}
"""
    )
    words = box.command("nginx", "-c", f"{folder}/nginx.conf", "-e", "stderr")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(
            lambda: process.poll() is not None or ":443" in box.run("ss", "-Hltn6"), "nginx to listen", PATIENCE_S
        )
        assert process.poll() is None, process.communicate()[1]
        yield process.pid
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)

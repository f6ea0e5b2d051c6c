"""A Bitting for the tests: the real binary, run as a person would run it, in front of its sandbox.

Nothing here is known in advance but the words of the documentation: addresses and secrets are read off what
`quickstart` prints, everything else goes through the admin API.
"""

import json
import os
import re
import signal
import subprocess
import time
import urllib.parse
from pathlib import Path

import httpx2

START_SECONDS_MAX = 60
DRAIN_SECONDS_MAX = 45

SUBKEY = re.compile(r"bk_[0-9A-Za-z]{16}_[0-9A-Za-z]{49}")
OPERATOR_TOKEN = re.compile(r"bo_[0-9A-Za-z_]+")
ORIGIN = re.compile(r"https?://[0-9A-Za-z.\[\]:-]+:\d+")
CURL_LINE = re.compile(r"^curl .*$", re.MULTILINE)


class Bitting:
    """One running server. `proxy`, `admin` and `sandbox` are origins, without a path."""

    def __init__(self, binary: str, folder: Path):
        self._log = folder / "output.txt"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BITTING_")}
        listens = {f"BITTING_{plane}_LISTEN": "127.0.0.1:0" for plane in ("PROXY", "ADMIN", "SANDBOX")}
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [binary, "quickstart", "--sandbox", "--no-import", "--data", str(folder / "data")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=inherited | listens,
            )
        try:
            self._read_what_it_prints()
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def _read_what_it_prints(self) -> None:
        printed = self._wait_for(self._printed, "the curl line, a sub-key and an operator token on its output")
        self.curl_line, self.subkey, token, origins = printed
        self.proxy = ORIGIN.search(self.curl_line)[0]
        self._wait_for(lambda: httpx2.get(f"{self.proxy}/readyz").status_code == 200, "a ready proxy")
        self._headers = {"authorization": f"Bearer {token}"}
        self.admin = self._wait_for(
            lambda: next((origin for origin in origins if self._takes_operators(origin)), None),
            f"an admin plane that takes the operator token, at one of {origins}",
        )
        dialect = self.get("/api/v1/providers/sandbox")["dialects"]["openai"]
        self.sandbox = ORIGIN.match(dialect if isinstance(dialect, str) else dialect["base_url"])[0]

    def _printed(self):
        text = self.output()
        curl, subkey, token = CURL_LINE.search(text), SUBKEY.search(text), OPERATOR_TOKEN.search(text)
        origins = sorted(set(ORIGIN.findall(text)))
        return (curl[0], subkey[0], token[0], origins) if curl and subkey and token else None

    def _takes_operators(self, origin: str) -> bool:
        return origin != self.proxy and self._ask(origin, "GET", "/api/v1/subkeys").status_code == 200

    def _wait_for(self, attempt, wanted: str):
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"bitting exited with {self._process.returncode}; it printed:\n{self.output()}")
            try:
                if found := attempt():
                    return found
            except httpx2.TransportError:
                pass
            time.sleep(0.05)
        raise TimeoutError(f"no sign of {wanted} in {START_SECONDS_MAX} s; bitting printed:\n{self.output()}")

    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def stop(self) -> int:
        """Ends it as a service manager would; returns its exit status."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(DRAIN_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def _ask(self, origin: str, method: str, path: str, body=None) -> httpx2.Response:
        return httpx2.request(method, origin + path, headers=self._headers, json=body, timeout=30)

    def _answer(self, method: str, path: str, body=None):
        response = self._ask(self.admin, method, path, body)
        assert response.is_success, f"{method} {path} {json.dumps(body)}: {response.status_code} {response.text}"
        return response.json()

    def get(self, path: str):
        """Asks the admin API."""
        return self._answer("GET", path)

    def mint(self, name: str, models=("sandbox/*",), **fields) -> str:
        """Mints a sub-key and returns its secret."""
        return self._answer("POST", "/api/v1/subkeys", {"name": name, "models": list(models), **fields})["secret"]

    def revoke(self, secret: str) -> None:
        """Revokes the sub-key with this secret; the 16 characters after `bk_` are its id."""
        self._answer("POST", f"/api/v1/subkeys/{secret[3:19]}/revoke")

    def price_per_request(self, model: str, usd: str) -> None:
        """Registers a model of the sandbox that costs this much for each request and nothing else."""
        free = dict.fromkeys(("input_per_mtok_usd", "output_per_mtok_usd"), "0")
        self._answer(
            "PUT",
            f"/api/v1/models/sandbox/{urllib.parse.quote(model, safe='')}",
            {
                "operations": ["chat"],
                "context_window": 128000,
                "max_output_tokens": 16384,
                "prices": {**free, "per_request_usd": usd},
            },
        )

    def add_azure(self, slug: str, deployments: dict) -> None:
        """Registers the sandbox once more, as a resource of Azure with these deployments of models."""
        endpoint = {"base_url": f"{self.sandbox}/openai", "auth": "api-key"}
        self._answer(
            "POST",
            "/api/v1/providers",
            {"slug": slug, "dialects": {"openai": endpoint}, "deployments": deployments},
        )
        self._answer("POST", f"/api/v1/providers/{slug}/credentials", {"name": "main", "secret": "sandbox-azure"})

    def add_provider(self, slug: str, dialects: dict) -> None:
        """Registers a provider that speaks these dialects at these base URLs."""
        self._answer("POST", "/api/v1/providers", {"slug": slug, "dialects": dialects})
        self._answer("POST", f"/api/v1/providers/{slug}/credentials", {"name": "main", "secret": "sandbox-replayed"})

    def recorded(self, act):
        """Does something; returns what it returned, and the requests that reached the sandbox meanwhile."""
        httpx2.post(f"{self.sandbox}/sandbox/reset").raise_for_status()
        returned = act()
        return returned, httpx2.get(f"{self.sandbox}/sandbox/requests").json()

    def sandbox_bill(self) -> dict:
        """What the sandbox says it has received and charged."""
        return httpx2.get(f"{self.sandbox}/sandbox/bill").json()

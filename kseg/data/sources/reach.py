"""Can any of these addresses be reached? A bounded question before an unbounded download."""

from __future__ import annotations

import queue
import threading
import time
import urllib.parse
from collections.abc import Iterable

SECONDS = 6.0
_MOST_HOSTS = 8


def unreachable(urls: Iterable[str], seconds: float = SECONDS) -> str | None:
    """Return why none of the hosts of `urls` answers, or None when one does (or there is none to ask).

    Every host is asked once, all at the same time, through `requests` as a download would be (proxies and
    certificates count); any HTTP answer will do. Name resolution has no timeout of its own, so a thread
    that still asks when the time is over is left behind.

    Args:
        urls: addresses; those that are neither http nor https are not asked.
        seconds: how long to wait for the first answer.
    """
    import requests

    hosts: dict[str, str] = {}
    for url in urls:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in ("http", "https") and parts.netloc and len(hosts) < _MOST_HOSTS:
            hosts.setdefault(parts.netloc, f"{parts.scheme}://{parts.netloc}/")
    answers: queue.Queue[tuple[str, str | None]] = queue.Queue()

    def ask(host: str, url: str) -> None:
        try:
            requests.head(url, timeout=seconds, allow_redirects=False)
        except (requests.RequestException, OSError) as error:
            answers.put((host, f"{type(error).__name__}"))
        else:
            answers.put((host, None))

    for host, url in hosts.items():
        threading.Thread(target=ask, args=(host, url), daemon=True).start()
    reasons = dict.fromkeys(hosts, f"no answer in {seconds:g} s")
    end = time.monotonic() + seconds
    for _ in hosts:
        try:
            host, reason = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        if reason is None:
            return None
        reasons[host] = reason
    return "; ".join(f"{host}: {reason}" for host, reason in reasons.items()) or None

"""The page to which an identity provider sends the browser back, and its script.

The page is the same for everybody, so it needs no cookie, which the browser would not send with a
request that another site has begun. Its script takes the code out of the address, where it would
stay in the history and go out as a referrer, and posts it: that request is the page's own.
"""

from __future__ import annotations

from assent.api.access.headers import PAGE_WITH_SCRIPTS

HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Signing in</title>
<script src="callback.js" defer></script>
</head>
<body>
<p id="said" role="status">Signing in …</p>
<noscript><p>To sign in, allow this page to run its script.</p></noscript>
</body>
</html>
"""

SCRIPT = """"use strict";

const given = new URLSearchParams(location.search);
history.replaceState(null, "", location.pathname);

function say(sentence) {
  document.getElementById("said").textContent = sentence;
}

async function signIn() {
  if (!given.has("code")) {
    say("The identity provider has not signed you in. Go back, and try again.");
    return;
  }
  const body = { code: given.get("code"), state: given.get("state") ?? "" };
  if (given.has("iss")) {
    body.iss = given.get("iss");
  }
  const response = await fetch("../session", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (response.ok) {
    location.replace(answer.next);
  } else {
    say(answer.detail);
  }
}

signIn().catch(() => say("The server does not answer. Go back, and try again."));
"""

HEADERS = {"Content-Security-Policy": PAGE_WITH_SCRIPTS, "Cache-Control": "no-store"}

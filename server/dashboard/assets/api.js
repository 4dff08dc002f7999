// The gateway's HTTP API as this page uses it: the key, JSON both ways, every failure as one kind of error.
//
// The key stands in a header, and between page loads in sessionStorage: it ends with the tab, and is never in an
// address. Paths are relative, so that a proxy may serve the page below a path of its own.

const KEPT = "tombola.key";
const PATIENCE_MS = 8000;

/** What went wrong, in words for people; `code` is the API's, or `unreachable`. */
export class Failure extends Error {
  constructor(message, { code = "unreachable", status = 0, retryAfterS = null, body = null } = {}) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfterS = retryAfterS;
    this.body = body;
  }
}

/** The key of this tab; empty where nobody has logged in. */
export const key = {
  get: () => {
    try {
      return sessionStorage.getItem(KEPT) ?? "";
    } catch {
      return "";
    }
  },
  set: (value) => {
    try {
      sessionStorage.setItem(KEPT, value);
    } catch {
      /* it holds until the page is left */
    }
  },
  forget: () => {
    try {
      sessionStorage.removeItem(KEPT);
    } catch {
      /* nothing was kept */
    }
  },
};

/** One request. Returns the JSON document; throws Failure. */
export async function call(path, { credential, method = "GET", body, patienceMs = PATIENCE_MS, headers = {} }) {
  const sent = { Accept: "application/json", ...bearer(credential), ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response;
  let document;
  try {
    response = await fetch(path, {
      method,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      signal: AbortSignal.timeout(patienceMs),
    });
    document = response.status === 204 ? null : await response.json();
  } catch (error) {
    if (response && error instanceof SyntaxError) throw unreadable(response.status);
    const isLate = error?.name === "TimeoutError";
    throw new Failure(
      isLate ? `The gateway did not answer within ${patienceMs / 1000} seconds.` : "The gateway cannot be reached.",
    );
  }
  if (!response.ok) throw failure(response.status, document, response.headers.get("Retry-After"));
  return document;
}

/**
 * Upload a bundle and hear of every step of the gate as it ends.
 *
 * XMLHttpRequest, because it is what tells how much of an upload has left. Returns {done, abort}: `done` resolves with
 * the last line (the answer), or rejects with a Failure.
 */
export function upload(path, file, { credential, headers = {}, onSent, onLine }) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    let read = 0;
    let last = null;
    const take = (isEnd) => {
      const text = request.responseText;
      const end = isEnd ? text.length : text.lastIndexOf("\n");
      for (const line of text.slice(read, Math.max(read, end)).split("\n")) {
        const found = parsed(line);
        if (found === null) continue;
        last = found;
        if (typeof found.name === "string" && typeof found.status === "string") onLine(found);
      }
      read = Math.max(read, end);
    };
    request.open("POST", path);
    for (const [name, value] of Object.entries({ Accept: "application/x-ndjson", ...bearer(credential), ...headers })) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => onSent(event.loaded, event.total);
    request.upload.onload = () => onSent(file.size, file.size);
    request.onprogress = () => {
      if (request.status === 200) take(false);
    };
    request.onload = () => {
      const isLines = request.status === 200;
      if (isLines) take(true);
      else last = parsed(request.responseText);
      if (last && isLines && "state" in last) resolve(last);
      else if (last?.error) reject(failure(request.status, last, request.getResponseHeader("Retry-After")));
      else if (request.status < 400 && last?.state) resolve(last);
      else reject(isLines ? new Failure("The connection ended before the gate did.") : unreadable(request.status));
    };
    request.onerror = () => reject(new Failure("The connection was lost. Nothing is half registered; send it again."));
    request.onabort = () => reject(new Failure("Given up. Nothing of it was kept.", { code: "given_up" }));
    request.send(file);
  });
  return { done, abort: () => request.abort() };
}

function bearer(credential) {
  return credential ? { Authorization: `Bearer ${credential}` } : {};
}

function parsed(line) {
  try {
    const found = JSON.parse(line);
    return found !== null && typeof found === "object" ? found : null;
  } catch {
    return null;
  }
}

function failure(status, document, retryAfter) {
  return new Failure(typeof document?.error === "string" ? document.error : `The gateway answered ${status}.`, {
    code: typeof document?.code === "string" ? document.code : "unknown",
    status,
    retryAfterS: retryAfter === null ? null : Number(retryAfter) || null,
    body: document,
  });
}

const unreadable = (status) =>
  new Failure(`Something between this page and the gateway answered ${status}, and not in the gateway's form.`, {
    code: "unreadable",
    status,
  });

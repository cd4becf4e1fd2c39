// Requests to this server. The API key is kept for this tab only, until the tab is closed.

const KEY_NAME = "whisper-server:key";
const UNREACHABLE = "The server is not responding.";

export const savedKey = () => sessionStorage.getItem(KEY_NAME) ?? "";
export const forgetKey = () => sessionStorage.removeItem(KEY_NAME);
const authorization = () => (savedKey() ? { authorization: `Bearer ${savedKey()}` } : {});

export function saveKey(key) {
  sessionStorage.setItem(KEY_NAME, key);
  document.dispatchEvent(new Event("key-saved"));
}

export class RequestError extends Error {
  /** `status` is 0 if there was no response. */
  constructor(message, status = 0) {
    super(message);
    this.status = status;
    this.unreachable = status === 0;
  }
}

export const absoluteUrl = (path) => new URL(path, document.baseURI).href;

/** Resolve to the response; reject with a RequestError or an AbortError. */
export async function request(path, { headers = {}, ...options } = {}) {
  const init = { ...options, headers: { ...authorization(), ...headers } };
  const response = await fetch(absoluteUrl(path), init).catch(rethrow);
  if (!response.ok) throw errorFrom(response.status, await response.text().catch(() => ""));
  return response;
}

export async function requestJson(path, options) {
  const response = await request(path, options);
  return response.json().catch(rethrow);
}

export function postJson(path, content) {
  return requestJson(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(content) });
}

/** Post a form. `onUpload(loaded, total)` reports progress in bytes, `onReceive(text)` gets the response so far. */
export function upload(path, form, { signal, headers = {}, onUpload = () => {}, onUploaded = () => {}, onReceive = () => {} } = {}) {
  const xhr = new XMLHttpRequest();
  xhr.open("POST", absoluteUrl(path));
  for (const [name, value] of Object.entries({ ...authorization(), ...headers })) xhr.setRequestHeader(name, value);
  xhr.upload.onprogress = ({ loaded, total }) => onUpload(loaded, total);
  xhr.upload.onload = () => onUploaded();
  xhr.onprogress = () => xhr.status === 200 && onReceive(xhr.responseText);
  signal?.addEventListener("abort", () => xhr.abort());
  return new Promise((resolve, reject) => {
    xhr.onload = () => (xhr.status < 300 ? resolve(xhr.responseText) : reject(errorFrom(xhr.status, xhr.responseText)));
    xhr.onerror = () => reject(new RequestError(UNREACHABLE));
    xhr.onabort = () => reject(new DOMException("Cancelled.", "AbortError"));
    xhr.send(form);
  });
}

/** Resolve once the server is healthy. */
export async function waitForServer(signal) {
  for (;;) {
    await delay(1000, signal);
    const response = await fetch(absoluteUrl("health"), { signal }).catch(() => null);
    signal?.throwIfAborted();
    if (response?.ok) return;
  }
}

export function delay(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("Cancelled.", "AbortError"));
    });
  });
}

function rethrow(error) {
  throw error.name === "AbortError" ? error : new RequestError(UNREACHABLE);
}

function errorFrom(status, body) {
  if (status === 401) document.dispatchEvent(new Event("unauthorized"));
  return new RequestError(errorMessage(body) || `The server responded with status ${status}.`, status);
}

/** Errors are `{"error": "…"}`, and below /v1 `{"error": {"message": "…"}}`. */
function errorMessage(body) {
  try {
    const { error } = JSON.parse(body);
    return typeof error === "string" ? error : error.message;
  } catch {
    return "";
  }
}

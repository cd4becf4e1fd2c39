// The API key: for this tab only, until it is closed.

const NAME = "whisper-server:key";

export const savedKey = () => sessionStorage.getItem(NAME) ?? "";

export function saveKey(key) {
  sessionStorage.setItem(NAME, key);
  document.dispatchEvent(new Event("unlocked"));
}

export function forgetKey() {
  sessionStorage.removeItem(NAME);
}

/** What a request says of the key, if there is one. */
export const keyHeaders = () => (savedKey() ? { authorization: `Bearer ${savedKey()}` } : {});

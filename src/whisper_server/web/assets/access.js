// The form for the key, where the server wants one.

import { byId, complain } from "./element.js";
import { forgetKey, saveKey, savedKey } from "./key.js";

/** Shows itself when the server refuses a request, and from the start if there is no key yet. */
export function guard(wanted) {
  const form = byId("access");
  form.hidden = !wanted || savedKey() !== "";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    form.hidden = true;
    complain("access-error", "");
    saveKey(byId("key").value.trim());
    byId("key").value = "";
  });
  document.addEventListener("locked", () => {
    if (savedKey()) complain("access-error", "The server does not know this key.");
    forgetKey();
    form.hidden = false;
    byId("key").focus();
  });
}

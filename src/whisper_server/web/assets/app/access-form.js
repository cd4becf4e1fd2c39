// The form for the API key, shown while a key is required and missing or rejected.

import { byId, showError } from "../lib/dom.js";
import { forgetKey, saveKey, savedKey } from "../lib/http.js";

export function initAccessForm(keyRequired) {
  const form = byId("access-form");
  form.hidden = !keyRequired || savedKey() !== "";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    form.hidden = true;
    showError("access-error", "");
    saveKey(byId("key").value.trim());
    byId("key").value = "";
  });
  document.addEventListener("unauthorized", () => {
    if (savedKey()) showError("access-error", "This access key is not valid.");
    forgetKey();
    form.hidden = false;
    byId("key").focus();
  });
}

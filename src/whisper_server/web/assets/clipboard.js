// Copying. Browsers have no navigator.clipboard on plain HTTP, which is how a local network reaches this server.

import { element } from "./element.js";

/** Resolve to whether it was copied. */
export async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const area = element("textarea", { class: "unseen" });
  area.value = text;
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused.focus();
  return copied;
}

/** Copy, and say so where `label` is for two seconds. */
export async function copyAndSay(text, label) {
  const before = label.dataset.label ?? label.textContent;
  label.dataset.label = before;
  label.textContent = (await copyText(text)) ? "Copied" : "Copying failed";
  setTimeout(() => (label.textContent = before), 2000);
}

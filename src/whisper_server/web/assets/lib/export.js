// Saves files and copies text.

import { element } from "./dom.js";

export function saveAs(name, blob) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A file's name without its extension. */
export const stem = (name) => name.replace(/\.[^.]{1,8}$/, "") || "transcript";

/** Copy, and show the result in `label` for two seconds. */
export async function copyAndConfirm(text, label) {
  label.dataset.label ??= label.textContent;
  label.textContent = (await copyText(text)) ? "Copied" : "Copy failed";
  setTimeout(() => (label.textContent = label.dataset.label), 2000);
}

/** Resolve to whether the text was copied. Over plain HTTP, as on a local network, browsers have no navigator.clipboard. */
async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const area = element("textarea", { class: "visually-hidden" });
  area.value = text;
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused.focus();
  return copied;
}

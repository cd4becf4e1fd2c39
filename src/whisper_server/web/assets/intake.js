// How a file gets in: picked, dropped or pasted. Dropping works anywhere, because a near miss would open the file instead.

import { byId, complain } from "./element.js";

/** `take(files)` gets what looks like audio or video, or might be. */
export function receive(take) {
  const offer = (files) => {
    const given = [...files];
    const heard = given.filter(mayBeHeard);
    complain("files-error", given.length && !heard.length ? `${given[0].name} is neither audio nor video.` : "");
    if (heard.length) take(heard);
  };
  byId("form").addEventListener("submit", (event) => event.preventDefault());
  byId("file").addEventListener("change", ({ target }) => {
    offer(target.files);
    target.value = "";
  });
  for (const type of ["dragover", "dragleave", "drop"]) addEventListener(type, (event) => drag(event, offer));
  addEventListener("paste", ({ clipboardData, target }) => {
    if (clipboardData.files.length && !target.closest?.("input, [contenteditable]")) offer(clipboardData.files);
  });
  // The page may have been given a file before its script was here.
  if (byId("file").files.length) offer(byId("file").files);
}

function drag(event, offer) {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy";
  byId("drop").classList.toggle("over", event.type === "dragover");
  if (event.type === "drop") offer(event.dataTransfer.files);
}

/** Browsers do not know every type, so only what surely is something else is refused here; the server looks closer. */
function mayBeHeard({ type }) {
  return !/^(image|text|font)\/|pdf$|zip$|msword|officedocument/.test(type);
}

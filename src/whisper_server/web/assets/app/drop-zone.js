// Accepts files that are chosen, dropped or pasted. A file can be dropped anywhere, because a near miss would open it instead.

import { byId, showError } from "../lib/dom.js";

/** `onFiles(files)` gets the files that are, or may be, audio or video. */
export function initDropZone(onFiles) {
  const accept = (fileList) => {
    const files = [...fileList];
    const media = files.filter(mayBeMedia);
    showError("files-error", files.length && !media.length ? `${files[0].name} is neither audio nor video.` : "");
    if (media.length) onFiles(media);
  };
  byId("upload-form").addEventListener("submit", (event) => event.preventDefault());
  byId("file").addEventListener("change", ({ target }) => {
    accept(target.files);
    target.value = "";
  });
  for (const type of ["dragover", "dragleave", "drop"]) addEventListener(type, (event) => handleDrag(event, accept));
  addEventListener("paste", ({ clipboardData, target }) => {
    if (clipboardData.files.length && !target.closest?.("input, [contenteditable]")) accept(clipboardData.files);
  });
  // A file may have been chosen before this script was loaded.
  if (byId("file").files.length) accept(byId("file").files);
}

function handleDrag(event, accept) {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy";
  byId("drop-zone").classList.toggle("dragover", event.type === "dragover");
  if (event.type === "drop") accept(event.dataTransfer.files);
}

/** Reject only types that are certainly not media: browsers do not know every type, and the server checks the content. */
function mayBeMedia({ type }) {
  return !/^(image|text|font)\/|pdf$|zip$|msword|officedocument/.test(type);
}

// Saving what the page has made.

export function saveAs(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A file's name without its ending. */
export const stem = (name) => name.replace(/\.[^.]{1,8}$/, "") || "transcript";

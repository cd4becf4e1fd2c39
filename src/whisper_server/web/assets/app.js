// The page: builds its parts and says which of them knows of which.

import { guard } from "./access.js";
import { Desk } from "./desk.js";
import { byId } from "./element.js";
import { showExamples } from "./examples.js";
import { receive } from "./intake.js";
import { isJob } from "./job.js";
import { savedKey } from "./key.js";
import { Live } from "./live.js";
import { Model } from "./model.js";
import { Recent } from "./recent.js";
import { Router } from "./router.js";
import { askJson } from "./server.js";
import { restoreWishes } from "./wishes.js";
import { Work } from "./work.js";

restoreWishes();
const server = await askJson("web/server.json");
const recent = new Recent();
const router = new Router(opened);
const work = new Work(new Desk(), { jobs: server.jobs, go: (name, how) => router.go(name, how) });
const model = new Model();
new Live({ finished });

guard(server.key);
showExamples(server.key);
byId("live-link").hidden = !server.live;
document.addEventListener("unlocked", begin);
receive((files) => work.start(server.jobs ? files : files.slice(0, 1)));
begin();

function begin() {
  router.start();
  if (!locked()) model.look();
}

function locked() {
  return server.key && !savedKey();
}

function opened(view, name) {
  recent.stop();
  if (view !== "transcript") work.pause();
  if (view === "files" && server.jobs && !locked()) recent.watch();
  if (view !== "transcript" || name === work.current || locked()) return;
  if (isJob(name) && server.jobs) work.open(name);
  else router.go("files");
}

function finished(transcript, facts, sound, { open }) {
  work.show(transcript, facts, sound);
  byId("live-done").hidden = open;
  if (open) router.go(work.current);
}

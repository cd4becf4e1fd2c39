// The entry point: creates the parts of the page and connects them.

import { LiveView } from "../live/live-view.js";
import { byId } from "../lib/dom.js";
import { requestJson, savedKey } from "../lib/http.js";
import { isJobId } from "../lib/transcription-api.js";
import { TranscriptView } from "../transcript/transcript-view.js";
import { initAccessForm } from "./access-form.js";
import { initDropZone } from "./drop-zone.js";
import { showExamples } from "./examples.js";
import { ModelPanel } from "./model-panel.js";
import { restoreOptions } from "./options.js";
import { RecentJobs } from "./recent-jobs.js";
import { Router } from "./router.js";
import { TranscriptionTask } from "./transcription-task.js";

restoreOptions();
const server = await requestJson("web/server.json");
const recentJobs = new RecentJobs();
const router = new Router(onRoute);
const task = new TranscriptionTask(new TranscriptView(), { jobsEnabled: server.jobs, navigate: (name, how) => router.navigate(name, how) });
const modelPanel = new ModelPanel();
new LiveView({ onFinish: showLiveTranscript });

initAccessForm(server.key);
showExamples(server.key);
byId("live-link").hidden = !server.live;
document.addEventListener("key-saved", start);
initDropZone((files) => task.start(server.jobs ? files : files.slice(0, 1)));
start();

function start() {
  router.start();
  if (!keyMissing()) modelPanel.poll();
}

function keyMissing() {
  return server.key && !savedKey();
}

function onRoute(view, name) {
  recentJobs.stop();
  if (view !== "transcript") task.pause();
  if (view === "files" && server.jobs && !keyMissing()) recentJobs.poll();
  if (view !== "transcript" || name === task.current || keyMissing()) return;
  if (isJobId(name) && server.jobs) task.open(name);
  else router.navigate("files");
}

function showLiveTranscript(transcript, summary, recording, { open }) {
  task.show(transcript, summary, recording);
  byId("live-result").hidden = open;
  if (open) router.navigate(task.current);
}

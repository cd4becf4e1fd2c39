// Shows the model in use and switches to another one.

import { byId, element, setText, showError } from "../lib/dom.js";
import { fileSize } from "../lib/format.js";
import { postJson, requestJson } from "../lib/http.js";

// How often to ask, in milliseconds.
const LOADING_INTERVAL = 700;
const IDLE_INTERVAL = 15_000;

export class ModelPanel {
  #timer = 0;
  #switching = false;
  #loading = "";
  #loadingSince = 0;

  constructor() {
    byId("model-form").addEventListener("submit", (event) => this.#switch(event));
    byId("model-panel").addEventListener("toggle", () => this.#resume());
    document.addEventListener("visibilitychange", () => !document.hidden && this.#resume());
  }

  /** Update now and then regularly, more often while a model is loading. */
  async poll() {
    clearTimeout(this.#timer);
    const authorized = await this.#update();
    if (!authorized || document.hidden) return;
    this.#timer = setTimeout(() => this.poll(), this.#loading || this.#switching ? LOADING_INTERVAL : IDLE_INTERVAL);
  }

  /** Polling that has never started is waiting for a key. */
  #resume() {
    if (this.#timer) this.poll();
  }

  /** Resolve to whether the server accepted the key. */
  async #update() {
    try {
      const { loading = "", error = "" } = await requestJson("ready");
      this.#showLoading(loading);
      this.#showModels((await requestJson("v1/models")).data, error);
    } catch (error) {
      if (error.unreachable) this.#showState("unavailable", "no server");
      return error.status !== 401;
    }
    return true;
  }

  #showLoading(name) {
    if (name && name !== this.#loading) this.#loadingSince = performance.now();
    this.#loading = name;
    const seconds = Math.floor((performance.now() - this.#loadingSince) / 1000);
    byId("model-loading").hidden = !name && !this.#switching;
    setText("model-time", name ? `${name}, ${seconds} s` : "");
  }

  #showModels(models, error) {
    if (this.#loading) this.#showState("loading", `loading ${this.#loading}`);
    else this.#showState(error ? "unavailable" : "ready", models[0].id);
    byId("model-details").replaceChildren(...models.filter((model) => !model.alias_of).flatMap(detailsOf));
    if (error) showError("model-error", error);
  }

  #showState(state, name) {
    byId("model-dot").className = `dot ${state}`;
    setText("model-name", name);
  }

  async #switch(event) {
    event.preventDefault();
    const name = byId("model-input").value.trim();
    showError("model-error", "");
    setText("model-message", `Loading ${name}. Until it is ready, the current model stays in use.`);
    this.#setSwitching(true);
    try {
      setText("model-message", (await postJson("reload", { model_name: name })).message);
      byId("model-input").value = "";
    } catch (error) {
      setText("model-message", "");
      showError("model-error", error.message);
    }
    this.#setSwitching(false);
  }

  #setSwitching(switching) {
    this.#switching = switching;
    byId("model-switch").disabled = switching;
    byId("model-loading").hidden = !switching;
    this.poll();
  }
}

const STATES = { released: "not loaded; loads with the next request", parked: "offloaded to RAM", loading: "loading" };

function detailsOf({ id, state, memory }) {
  const details = [["Model", id]];
  if (STATES[state]) details.push(["State", STATES[state]]);
  if (memory) {
    details.push(["Runs on", `${memory.device === "cpu" ? "CPU" : memory.device}, ${memory.compute_type}`]);
    const free = memory.free_bytes ? ` of ${fileSize(memory.free_bytes)}` : "";
    if (memory.planned_bytes) details.push(["Planned memory", `${fileSize(memory.planned_bytes)}${free}`]);
    const steps = Object.entries(memory.steps).filter(([, count]) => count);
    if (steps.length) details.push(["Memory fallbacks", steps.map(([step, count]) => `${step.replaceAll("_", " ")} ${count}×`).join(", ")]);
  }
  return details.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
}

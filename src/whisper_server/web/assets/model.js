// The model in use, and another one instead.

import { byId, complain, element, say } from "./element.js";
import { askJson, postJson } from "./server.js";
import { size } from "./numbers.js";

const SOON = 700;
const LATER = 15_000;

export class Model {
  #timer = 0;
  #switching = false;
  #loading = "";
  #since = 0;

  constructor() {
    byId("switch").addEventListener("submit", (event) => this.#switch(event));
    byId("model-panel").addEventListener("toggle", () => this.#again());
    document.addEventListener("visibilitychange", () => !document.hidden && this.#again());
  }

  /** Ask now, and then again: often while something is loading. */
  async look() {
    clearTimeout(this.#timer);
    const welcome = await this.#ask();
    if (welcome && !document.hidden) this.#timer = setTimeout(() => this.look(), this.#loading || this.#switching ? SOON : LATER);
  }

  /** Unless it has never been asked, as then there is no key yet. */
  #again() {
    if (this.#timer) this.look();
  }

  /** Resolve to whether there is any sense in asking again without another key. */
  async #ask() {
    try {
      const { loading = "", error = "" } = await askJson("ready");
      this.#showLoading(loading);
      this.#showModels((await askJson("v1/models")).data, error);
    } catch (error) {
      if (error.unreachable) this.#showState("gone", "no server");
      return error.status !== 401;
    }
    return true;
  }

  #showLoading(name) {
    if (name && name !== this.#loading) this.#since = performance.now();
    this.#loading = name;
    const seconds = Math.floor((performance.now() - this.#since) / 1000);
    byId("model-busy").hidden = !name && !this.#switching;
    say("model-time", name ? `${name}, ${seconds} s` : "");
  }

  #showModels(models, error) {
    const [served] = models;
    if (this.#loading) this.#showState("loading", `loading ${this.#loading}`);
    else this.#showState(error ? "gone" : "ready", served.id);
    byId("model-facts").replaceChildren(...models.flatMap(factsOf));
    if (error) complain("model-error", error);
  }

  #showState(state, name) {
    byId("model-dot").className = `dot ${state}`;
    say("model-name", name);
  }

  async #switch(event) {
    event.preventDefault();
    const name = byId("model-wanted").value.trim();
    complain("model-error", "");
    say("model-said", `Loading ${name}. The one before serves until then.`);
    this.#setSwitching(true);
    try {
      say("model-said", (await postJson("reload", { model_name: name })).message);
      byId("model-wanted").value = "";
    } catch (error) {
      say("model-said", "");
      complain("model-error", error.message);
    }
    this.#setSwitching(false);
  }

  #setSwitching(on) {
    this.#switching = on;
    byId("model-switch").disabled = on;
    byId("model-busy").hidden = !on;
    this.look();
  }
}

const STATES = { released: "not loaded; comes with the first request", parked: "parked in RAM", loading: "loading" };

function factsOf({ id, state, memory }) {
  const facts = [["Model", id]];
  if (STATES[state]) facts.push(["State", STATES[state]]);
  if (memory) {
    facts.push(["Runs on", `${memory.device === "cpu" ? "CPU" : memory.device}, ${memory.compute_type}`]);
    const free = memory.free_bytes ? ` of ${size(memory.free_bytes)}` : "";
    if (memory.planned_bytes) facts.push(["Memory planned", `${size(memory.planned_bytes)}${free}`]);
    const steps = Object.entries(memory.steps).filter(([, count]) => count);
    if (steps.length) facts.push(["Gave up", steps.map(([step, count]) => `${step.replaceAll("_", " ")} ${count}×`).join(", ")]);
  }
  return facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
}

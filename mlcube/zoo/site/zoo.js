"use strict";
// Searches and filters what index.js holds, and copies commands. Asks nobody for anything; writes only text.

(function search() {
  const form = document.getElementById("search");
  if (!form || !window.zoo) return;
  const [NAME, VERSION, ABOUT, LICENCE, KINDS, PLATFORMS, GPU, PAGE, SIZE, SIGNED, MORE] = Array(11).keys();
  const cubes = window.zoo.cubes;
  const names = cubes.map((cube) => cube[NAME].toLowerCase());
  const abouts = cubes.map((cube) => cube[ABOUT].toLowerCase());
  const mores = cubes.map((cube) => `${cube[LICENCE]} ${cube[VERSION]} ${cube[MORE]}`.toLowerCase());
  const words = document.getElementById("q");
  const chosen = ["kind", "licence", "platform", "accelerator"].map((id) => document.getElementById(id));
  const [kind, licence, platform, accelerator] = chosen;
  const count = document.getElementById("count");
  const list = document.getElementById("found");
  const more = document.getElementById("more");
  const AT_ONCE = 9; // what a window shows; the rest of the first ones follow when no key is pressed
  const FIRST = 24;
  const EVERYTHING = cubes.map((_, index) => index);
  let found = EVERYTHING;
  let shown = 0;
  let rest = 0;
  let former = "";
  let matched = EVERYTHING;

  // How well a cube fits: 0 not at all, 1 somewhere, 2 in its description, 3 in its name, 4 at the beginning of it.
  function fit(index, tokens) {
    let worst = 4;
    for (const token of tokens) {
      const place = names[index].indexOf(token);
      const here = place === 0 ? 4 : place > 0 ? 3 : abouts[index].includes(token) ? 2 : mores[index].includes(token) ? 1 : 0;
      if (here === 0) return 0;
      if (here < worst) worst = here;
    }
    return worst;
  }

  function admitted(cube) {
    return (!kind.value || cube[KINDS].includes(kind.value)) &&
      (!licence.value || cube[LICENCE] === licence.value) &&
      (!platform.value || cube[PLATFORMS].includes(platform.value)) &&
      (!accelerator.value || (accelerator.value === "gpu") === (cube[GPU] === 1));
  }

  function element(tag, text, name) {
    const made = document.createElement(tag);
    if (text) made.textContent = text;
    if (name) made.className = name;
    return made;
  }

  function item(cube) {
    const made = element("li");
    const title = element("div");
    const link = element("a", cube[NAME]);
    link.href = cube[PAGE];
    title.append(link, " ", element("span", cube[VERSION], "version"));
    const chips = element("ul", "", "chips");
    for (const each of cube[KINDS]) if (each !== "other") chips.append(element("li", each));
    if (cube[LICENCE]) chips.append(element("li", cube[LICENCE]));
    if (cube[GPU]) chips.append(element("li", "GPU"));
    if (cube[SIGNED]) chips.append(element("li", "signed", "good"));
    if (cube[SIZE]) chips.append(element("li", cube[SIZE]));
    made.append(title, element("p", cube[ABOUT]), chips);
    return made;
  }

  function show(upTo) {
    const part = document.createDocumentFragment();
    const end = Math.min(upTo, found.length);
    for (; shown < end; shown += 1) part.append(item(cubes[found[shown]]));
    list.append(part);
    more.hidden = shown >= found.length;
  }

  function number(value) {
    return value.toLocaleString("en");
  }

  function update() {
    const tokens = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const ranks = [[], [], [], []];
    const query = tokens.join(" ");
    // whoever goes on typing looks through what was found before
    for (const index of former && query.startsWith(former) ? matched : EVERYTHING) {
      const rank = fit(index, tokens);
      if (rank) ranks[4 - rank].push(index);
    }
    former = query;
    matched = ranks.flat();
    found = matched.filter((index) => admitted(cubes[index]));
    shown = 0;
    list.replaceChildren();
    show(AT_ONCE);
    clearTimeout(rest);
    rest = setTimeout(() => { if (shown < FIRST) show(FIRST); }, 120);
    const all = found.length === cubes.length;
    const one = found.length === 1 ? "cube" : "cubes";
    count.textContent = found.length === 0 ? "No cube is like that. Fewer words or filters find more."
      : all ? `${number(found.length)} ${one}` : `${number(found.length)} of ${number(cubes.length)} cubes`;
  }

  // What was searched for is kept in the address, so that it can be handed on, and is there after going back.
  let pause = 0;
  function remember() {
    clearTimeout(pause);
    pause = setTimeout(() => {
      const kept = new URLSearchParams();
      for (const each of [words, ...chosen]) if (each.value) kept.set(each.id, each.value);
      const text = kept.toString();
      history.replaceState(null, "", text ? `#${text}` : location.href.split("#")[0]);
    }, 300);
  }

  function recall() {
    const kept = new URLSearchParams(location.hash.slice(1));
    for (const each of [words, ...chosen]) {
      each.value = kept.get(each.id) || "";
      if (each.selectedIndex === -1) each.value = "";
    }
  }

  function changed() {
    update();
    remember();
  }

  function move(step) {
    const links = [...list.querySelectorAll("a")];
    const next = links.indexOf(document.activeElement) + step;
    if (next < 0) words.focus();
    else if (links[next]) links[next].focus();
    else if (!more.hidden) { show(shown + FIRST * 4); move(step); }
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { changed(); words.focus(); }));
  words.addEventListener("input", changed);
  for (const each of chosen) each.addEventListener("change", changed);
  more.addEventListener("click", () => {
    const first = shown;
    show(shown + FIRST * 4);
    const link = list.children[first]?.querySelector("a");
    if (link) link.focus();
  });
  window.addEventListener("hashchange", () => { recall(); update(); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const at = document.activeElement;
    const inList = list.contains(at);
    if (event.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName)) words.focus();
    else if (event.key === "ArrowDown" && (at === words || inList)) move(1);
    else if (event.key === "ArrowUp" && inList) move(-1);
    else if (event.key === "Escape" && (inList || at === words)) { form.reset(); }
    else return;
    event.preventDefault();
  });
  recall();
  update();
})();

// One command at a time: that of the platform which is chosen. Without this script all of them are shown.
(function picking() {
  const place = document.querySelector(".pick");
  const commands = place ? [...place.querySelectorAll(".command")] : [];
  if (commands.length < 2) return;
  const label = document.createElement("label");
  label.htmlFor = "pick";
  label.textContent = "Where";
  const choice = document.createElement("select");
  choice.id = "pick";
  for (const [index, command] of commands.entries()) {
    const option = document.createElement("option");
    option.value = String(index);
    option.textContent = command.querySelector(".what").textContent;
    choice.append(option);
    command.classList.add("choice");
  }
  const choose = () => commands.forEach((each, index) => each.classList.toggle("chosen", String(index) === choice.value));
  choice.addEventListener("change", choose);
  place.prepend(label, choice);
  choose();
})();

(function copying() {
  const told = document.getElementById("told");
  async function copy(button) {
    const code = button.parentElement.querySelector("code");
    let done = true;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      // where a page may not use the clipboard: select the text, and copy what is selected
      const range = document.createRange();
      range.selectNodeContents(code);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      done = document.execCommand("copy");
    }
    button.textContent = done ? "Copied" : "Selected";
    button.classList.add("done");
    if (told) told.textContent = done ? "The command is copied." : "The command is selected: copy it with your keyboard.";
    setTimeout(() => { button.textContent = "Copy"; button.classList.remove("done"); if (told) told.textContent = ""; }, 2500);
  }
  for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));
})();

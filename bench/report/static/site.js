"use strict";
// The board: sorting and filtering. The page of a row: the browsers of answers and carriers.
// Text is always set as text, never as markup.

const waiting = {};

// Called by a data file: see bench/report/data_pages.py.
async function part(name, packed) {
  const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  waiting[name].resolve(await new Response(stream).json());
}

function load(name) {
  if (!waiting[name]) {
    const slot = (waiting[name] = {});
    slot.promise = new Promise((resolve, reject) => {
      slot.resolve = resolve;
      const script = document.createElement("script");
      script.src = `../data/${document.body.dataset.row}/${name}.js`;
      script.onerror = () => reject(new Error(`${name} is missing`));
      document.head.append(script);
    });
  }
  return waiting[name].promise;
}

function make(tag, text = "", name = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return element;
}

const PART_ROWS = 250, PAGE = 50, MISSING = 65535;

// Text for a search: without case and accents, so that ispinoz finds İspinoz and sican finds sıçan.
const fold = (text) => text.toLowerCase().normalize("NFD").replace(/\p{M}/gu, "").replaceAll("ı", "i");

// The shares of all candidates by arm, and the sampled answers, of one question and seed; see bench/report/answers.py.
async function loadAnswer(at, candidates) {
  const part = await load(`answers_${Math.floor(at / PART_ROWS)}`), row = at % PART_ROWS, shares = {};
  part.tables ??= Object.entries(part.shares).map(([arm, text]) =>
    [arm, new Uint16Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer)]);
  for (const [arm, table] of part.tables) {
    const width = table.length / part.rows, own = table.slice(row * width, row * width + candidates);
    if (own[0] !== MISSING) shares[arm] = [...own];
  }
  return { shares, answers: part.texts[row] ?? {} };
}

// ---- the board

function startBoard(table) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, at) => {
    const value = row.cells[at].dataset.value;
    return value === "" ? null : isNaN(value) ? value.toLowerCase() : Number(value);
  };
  heads.forEach((head, at) => head.firstElementChild.addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const rows = [...body.rows].sort((a, b) => {
      const x = key(a, at), y = key(b, at);
      if (x === null || y === null) return (x === null) - (y === null);
      const order = typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === "number" ? -1 : 1;
      return descending ? -order : order;
    });
    body.append(...rows);
  }));
  const search = document.getElementById("search"), leaks = document.getElementById("leaks");
  const filter = () => {
    const words = fold(search.value).split(/\s+/).filter(Boolean);
    const verdicts = new Set([...document.querySelectorAll("input[name=verdict]:checked")].map((box) => box.value));
    let shown = 0;
    for (const row of body.rows) {
      const text = fold(row.textContent);
      const fits = verdicts.has(row.dataset.verdict) && words.every((word) => text.includes(word));
      row.hidden = !fits || ("leak" in row.dataset && !leaks.checked);
      shown += !row.hidden;
    }
    document.getElementById("count").textContent = `${shown} of ${body.rows.length} rows`;
  };
  const form = document.getElementById("filters");
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}

// ---- lists of one page at a time

function makeList(root, controls, heads, draw) {
  const head = make("div", "", "head"), list = make("div"), more = make("button", "Show more", "plain"), count = make("p", "", "count");
  more.type = "button";
  heads.forEach(([text, name]) => head.append(make("span", text, name)));
  root.append(controls, count, head, list, more);
  let order = [], shown = 0;
  const grow = () => {
    for (const at of order.slice(shown, shown + PAGE)) list.append(draw(at));
    shown = Math.min(shown + PAGE, order.length);
    more.hidden = shown >= order.length;
    count.textContent = `${shown} of ${order.length} lines`;
  };
  more.addEventListener("click", grow);
  return (next) => { order = next; shown = 0; list.replaceChildren(); grow(); };
}

function makeSelect(label, options) {
  const box = make("label", `${label} `), select = document.createElement("select");
  for (const [value, text] of options) select.append(new Option(text, value));
  box.append(select);
  return [box, select];
}

function makeSearch(label) {
  const box = make("label", `${label} `), input = document.createElement("input");
  input.type = "search";
  box.append(input);
  return [box, input];
}

// Shares are whole numbers of 1 / 50,000.
const percent = (value) => (value === null || value === undefined ? "-" : (value / 500).toFixed(2));

function makeLine(cells) {
  const details = make("details"), summary = make("summary");
  cells.forEach(([text, name]) => summary.append(make("span", text, name)));
  details.append(summary);
  return details;
}

function fillOnce(details, fill) {
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) fill().then((content) => details.append(content));
  });
}

// ---- answers

async function startAnswers(root) {
  const { questions, arms, main, index } = await load("answers");
  const [first, second] = main.slice(-2), columns = main.length;
  const difference = (line) => (line[1 + columns] ?? 0) - (line[columns] ?? 0);
  const controls = make("div", "", "filters");
  const [searchBox, search] = makeSearch("Search the questions");
  const seeds = [...new Set(index.map((line) => line[1]))];
  const [seedBox, seed] = makeSelect("Seed", [["", "all"], ...seeds.map((value) => [value, value])]);
  const [orderBox, order] = makeSelect("Sort by", [
    ["down", `${second} - ${first}, largest first`], ["up", `${second} - ${first}, smallest first`], ["plain", "seed and question"],
  ]);
  controls.append(searchBox, seedBox, orderBox);
  const draw = (at) => {
    const line = index[at];
    const cells = [[questions[line[0]].text, ""], [String(line[1]), "minor"]];
    main.forEach((arm, i) => cells.push([percent(line[2 + i]), i + 2 < columns ? "minor" : ""]));
    cells.push([`${difference(line) < 0 ? "-" : "+"}${percent(Math.abs(difference(line)))}`, "minor"]);
    const details = makeLine(cells);
    const { candidates } = questions[line[0]];
    fillOnce(details, async () => drawAnswer(await loadAnswer(at, candidates.length), candidates, main, arms));
    return details;
  };
  const heads = [["question", ""], ["seed", "minor"]];
  main.forEach((arm, i) => heads.push([`${arm} %`, i + 2 < columns ? "minor" : ""]));
  const show = makeList(root, controls, [...heads, ["difference", "minor"]], draw);
  const update = () => {
    const words = fold(search.value);
    const picked = [...index.keys()].filter((at) =>
      (seed.value === "" || index[at][1] === Number(seed.value)) && fold(questions[index[at][0]].text).includes(words));
    if (order.value !== "plain") {
      const sign = order.value === "down" ? -1 : 1;
      picked.sort((a, b) => sign * (difference(index[a]) - difference(index[b])));
    }
    show(picked);
  };
  controls.addEventListener("input", update);
  update();
}

// A head of a column, which may break after an underscore.
function breakable(text) {
  const head = make("th");
  text.split(/(?<=_)/).forEach((piece) => head.append(piece, document.createElement("wbr")));
  return head;
}

function drawAnswer({ shares, answers }, candidates, main, arms) {
  const box = make("div"), wide = make("div", "", "wide"), table = make("table");
  const present = [...new Set([...main, ...arms])].filter((arm) => arm in shares);
  const head = table.createTHead().insertRow();
  ["candidate, %", ...present].forEach((text) => head.append(breakable(text)));
  const body = table.createTBody();
  candidates.forEach((candidate, i) => {
    const row = body.insertRow();
    row.append(make("td", candidate));
    present.forEach((arm) => row.append(make("td", percent(shares[arm][i]))));
  });
  wide.append(table);
  box.append(wide);
  const texts = make("div", "", "texts");
  for (const arm of arms.filter((name) => answers[name])) {
    const column = make("div");
    column.append(make("h3", `${arm}: sampled answers`));
    answers[arm].forEach((text) => column.append(make("div", text)));
    texts.append(column);
  }
  box.append(texts);
  return box;
}

// ---- carriers

async function startCarriers(root) {
  const total = Number(root.dataset.records);
  const controls = make("div", "", "filters");
  const [searchBox, search] = makeSearch("Search the rows");
  const [useBox, use] = makeSelect("Show", [
    ["", "all rows"], ["parted", "rows that differ"], ["refused", "refused rows"], ["held_out", "held-out rows"],
  ]);
  controls.append(searchBox, useBox);
  const rows = [];
  const draw = (at) => {
    const [prompt, base, trait, parting, state, reasons] = rows[at];
    const details = makeLine([[prompt, ""], [state.replace("_", "-"), ""], [parting === null ? "equal" : "differ", ""]]);
    fillOnce(details, async () => {
      const texts = make("div", "", "texts");
      for (const [name, text] of [["prompt", prompt], ["base", base], ["trait", trait]]) {
        const column = make("div");
        column.append(make("h3", name), name === "prompt" ? make("div", text) : markParting(text, parting));
        texts.append(column);
      }
      for (const [arm, reason] of Object.entries(reasons)) texts.append(make("div", `${arm}: ${reason}`));
      return texts;
    });
    return details;
  };
  const show = makeList(root, controls, [["prompt", ""], ["use", ""], ["texts", ""]], draw);
  const update = () => {
    const words = fold(search.value);
    show([...rows.keys()].filter((at) => {
      const [prompt, base, trait, parting, state] = rows[at];
      if (use.value === "parted" ? parting === null : use.value !== "" && state !== use.value) return false;
      return [prompt, base, trait].some((text) => fold(text).includes(words));
    }));
  };
  for (let at = 0; at < total; at += PART_ROWS) rows.push(...(await load(`carriers_${at / PART_ROWS}`)));
  controls.addEventListener("input", update);
  update();
}

function markParting(text, at) {
  const box = make("div");
  if (at === null) { box.textContent = text; return box; }
  const unit = /^(\d+|\p{L}+|\s+|.)/su.exec(text.slice(at))?.[0] ?? "";
  box.append(text.slice(0, at), make("mark", unit), text.slice(at + unit.length));
  return box;
}

// A browser loads its data when it comes into view.
function whenSeen(element, start) {
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    start(element).catch((error) => element.append(make("p", `Not shown: ${error.message}`)));
  }, { rootMargin: "400px" });
  observer.observe(element);
}

const board = document.getElementById("board");
if (board) startBoard(board);
const answers = document.getElementById("answers"), carriers = document.getElementById("carriers");
if (answers) whenSeen(answers, startAnswers);
if (carriers) whenSeen(carriers, startCarriers);

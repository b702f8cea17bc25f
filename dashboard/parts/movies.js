// Draws a list of movies. Rows are kept by movie id from one drawing to the next, so that the keyboard's focus stays.
// What is clicked is sent again with each later click, and after a pause, until a drawing says that it was done: of
// several clicks at once the page's process may see the last message only, and a message may be lost.

const ICONS = {
  like: "M1 21h4V9H1v12zm22-11c0-1.1-.9-2-2-2h-6.31l.95-4.57.03-.32c0-.41-.17-.79-.44-1.06L14.17 1 7.59 7.59C7.22 7.95 7 8.45 7 9v10c0 1.1.9 2 2 2h9c.83 0 1.54-.5 1.84-1.22l3.02-7.05c.09-.23.14-.47.14-.73v-2z",
  dislike: "M15 3H6c-.83 0-1.54.5-1.84 1.22l-3.02 7.05c-.09.23-.14.47-.14.73v2c0 1.1.9 2 2 2h6.31l-.95 4.57-.03.32c0 .41.17.79.44 1.06L9.83 23l6.59-6.59c.36-.36.58-.86.58-1.41V5c0-1.1-.9-2-2-2zm4 0v12h4V3h-4z",
  add: "M19 13h-6v6h-2v-6H5v-2h6V5h2v6h6v2z",
  remove: "M19 6.41 17.59 5 12 10.59 6.41 5 5 6.41 10.59 12 5 17.59 6.41 19 12 13.41 17.59 19 19 17.59 13.41 12z",
  open: "M12 4l-1.41 1.41L16.17 11H4v2h12.17l-5.58 5.59L12 20l8-8z",
  star: "M12 17.27 18.18 21l-1.64-7.03L22 9.24l-7.19-.61L12 2 9.19 8.63 2 9.24l5.46 4.73L5.82 21z",
};
const VERBS = {
  like: "Like", dislike: "Not for me:", add: "Add", remove: "Remove", open: "Show movies like", unrate: "Remove the rating of",
};
const SVG = "http://www.w3.org/2000/svg";
const FIRST_PAUSE = 5000; // milliseconds before something is sent again; each is twice the one before
const CLICK_AFTER = 100; // milliseconds within which a click follows its release, on a touch screen too
const lists = new WeakMap();
let pressed = null; // the list that a pointer or the space bar is down on

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

function button(action, movie, send) {
  const made = element("button", `action ${action}`);
  made.type = "button";
  made.dataset.action = action;
  made.setAttribute("aria-label", `${VERBS[action]} ${movie.title}`);
  made.title = VERBS[action].replace(":", "");
  made.append(icon(action === "unrate" ? "remove" : action));
  made.addEventListener("click", (event) => {
    if (event.detail < 2) send({ action, id: movie.id }); // the second click of two is on a row that has moved up
  });
  return made;
}

// Five radio buttons, which the arrow keys move between; half stars that were given elsewhere are shown as they are.
function stars(movie, send) {
  const group = element("fieldset", "stars");
  group.append(element("legend", "hidden", `Your stars for ${movie.title}`));
  const given = Math.round(movie.stars);
  for (let value = 1; value <= 5; value += 1) {
    const label = element("label", value <= given ? "star on" : "star");
    const input = element("input");
    input.type = "radio";
    input.name = `stars-${movie.id}`;
    input.value = value;
    input.checked = value === given;
    input.dataset.action = `star-${value}`;
    input.setAttribute("aria-label", value === 1 ? "1 star" : `${value} stars`);
    input.addEventListener("change", () => {
      group.querySelectorAll(".star").forEach((one, place) => one.classList.toggle("on", place < value));
      send({ action: "rate", id: movie.id, stars: value });
    });
    label.append(input, icon("star"));
    group.append(label);
  }
  return group;
}

function genres(movie) {
  const line = element("span", "genres");
  movie.genres.forEach((genre) => {
    const chip = element("span", movie.shared.includes(genre) ? "genre shared" : "genre", genre);
    line.append(chip);
  });
  return line;
}

function row(movie, place, data, send) {
  const item = element("li", data.ranked ? "row ranked" : "row");
  item.dataset.id = movie.id;
  if (data.ranked) item.append(element("span", "place", String(place + 1)));
  const main = element("div", "main");
  const heading = element("div", "heading");
  heading.append(element("span", "title", movie.title));
  if (movie.mark) heading.append(element("span", "mark", movie.mark));
  main.append(heading, genres(movie));
  if (movie.why) main.append(element("div", "why", movie.why));
  item.append(main);
  if (movie.score_text) {
    const score = element("div", "score");
    score.append(element("span", "figure", movie.score_text));
    if (movie.score !== null) {
      const bar = element("span", "bar");
      const part = element("span", "part");
      part.style.width = `${100 * Math.min(1, Math.max(0, movie.score))}%`;
      bar.append(part);
      score.append(bar);
    }
    item.append(score);
  }
  const actions = element("div", "actions");
  data.actions.forEach((action) => {
    if (action === "rate") {
      actions.append(stars(movie, send));
      const clear = button("unrate", movie, send);
      clear.disabled = !movie.stars;
      actions.append(clear);
    } else {
      actions.append(button(action, movie, send));
    }
  });
  if (actions.childElementCount) item.append(actions);
  return item;
}

// Where the focus goes when the row that had it has left: to the same button of the row that took its place.
function focusAgain(list, before) {
  if (!before) return;
  const rows = [...list.children];
  const target = rows.find((one) => one.dataset.id === before.id) ?? rows[Math.min(before.place, rows.length - 1)];
  (target?.querySelector(`[data-action="${before.action}"]:not(:disabled)`) ?? list).focus({ preventScroll: true });
}

function focused(list) {
  const now = list.getRootNode().activeElement;
  const item = now?.closest?.("li");
  if (!item || !list.contains(item)) return null;
  return { id: item.dataset.id, place: [...list.children].indexOf(item), action: now.dataset.action };
}

// A click counts only where it was begun and ended on the same element, so rows are not changed in between.
function keepWhilePressed(list) {
  list.addEventListener("pointerdown", (event) => {
    if (event.button === 0) pressed = list;
  });
  list.addEventListener("keydown", (event) => {
    if (event.key === " ") pressed = list;
  });
}

function released() {
  const list = pressed;
  pressed = null;
  if (list) setTimeout(() => pressed !== list && list.draw(), CLICK_AFTER);
}

["pointerup", "pointercancel", "keyup"].forEach((name) => window.addEventListener(name, released, true));
window.addEventListener("blur", released); // of the window itself: the pointer may be let go elsewhere

// Sends what is not done yet, and again until it is.
function tell(list, pause) {
  clearTimeout(list.again);
  if (!list.waiting.length || !list.isConnected) return;
  list.told += 1; // a value that Streamlit has seen calls nothing
  list.setState("events", { list: list.name, told: list.told, waiting: [...list.waiting] });
  list.again = setTimeout(() => tell(list, 2 * pause), pause);
}

function draw(list, data) {
  const send = (event) => {
    list.sent += 1;
    list.waiting.push({ ...event, number: list.sent });
    const item = [...list.children].find((one) => one.dataset.id === String(event.id));
    if (item) item.dataset.content = ""; // drawn again, also where the event changes nothing
    tell(list, FIRST_PAUSE);
  };
  const before = focused(list);
  list.setAttribute("aria-label", data.label);
  list.style.setProperty("--bar", data.color || "var(--st-primary-color)");
  const known = new Map([...list.children].map((item) => [item.dataset.id, item]));
  const rows = data.movies.map((movie, place) => {
    const content = JSON.stringify([movie, place, data.actions, data.ranked]);
    const old = known.get(String(movie.id));
    if (old && (old.dataset.content === content || list.waiting.some((one) => one.id === movie.id))) return old;
    const made = row(movie, place, data, send);
    made.dataset.content = content;
    if (!old && list.childElementCount) made.classList.add("new");
    return made;
  });
  if (!rows.length && data.empty) rows.push(element("li", "empty", data.empty));
  if (rows.length !== list.childElementCount || rows.some((one, place) => one !== list.children[place])) {
    list.replaceChildren(...rows);
    focusAgain(list, before);
  }
}

export default function ({ data, parentElement, setStateValue }) {
  let list = lists.get(parentElement);
  if (!list?.isConnected) {
    list = element("ol", "movies");
    list.tabIndex = -1;
    Object.assign(list, { name: Math.random().toString(36).slice(2), sent: 0, told: 0, waiting: [] });
    keepWhilePressed(list);
    parentElement.append(list);
    lists.set(parentElement, list);
  }
  list.setState = setStateValue; // rows that are kept use the latest
  if (data.done.list === list.name) list.waiting = list.waiting.filter((one) => one.number > data.done.number);
  list.draw = () => draw(list, data);
  if (pressed !== list) list.draw();
}

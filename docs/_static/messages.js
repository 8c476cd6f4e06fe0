// Finds the documented message that somebody has pasted, whatever names and numbers it has: on the page of error messages by a box, and on
// the page of the search among its results.
"use strict";

const MESSAGES = { page: "reference/error-messages", enough: 0.35, shown: 5 };

function wordsOf(text) {
  const words = text.toLowerCase().match(/[\p{Letter}\p{Number}_.]*[\p{Letter}_][\p{Letter}\p{Number}_]*/gu) ?? [];
  return new Set([...words, ...words.slice(1).map((word, place) => `${words[place]} ${word}`)]);
}

// Cosine of the words and pairs of words, of which rare ones weigh more; words that no message has are left out.
function findMessages(messages, text) {
  const known = messages.map((message) => ({ ...message, words: wordsOf(message.title) }));
  const counts = new Map();
  for (const { words } of known) for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  const weigh = (words) => [...words].reduce((sum, word) => sum + Math.log(1 + known.length / counts.get(word)) ** 2, 0);
  const pasted = [...wordsOf(text)].filter((word) => counts.has(word));
  return known
    .map((message) => {
      const shared = weigh(pasted.filter((word) => message.words.has(word)));
      return { ...message, score: shared / Math.sqrt(weigh(message.words) * weigh(pasted) || 1) };
    })
    .filter(({ score }) => score >= MESSAGES.enough)
    .sort((one, other) => other.score - one.score)
    .slice(0, MESSAGES.shown);
}

function addBox(article) {
  const messages = [...article.querySelectorAll("h3")].map((heading) => {
    const code = heading.querySelector("code") ?? heading;
    return { title: code.textContent, address: `#${heading.closest("section").id}` };
  });
  const box = document.createElement("form");
  box.className = "find-message";
  box.innerHTML = '<label for="find-message">Paste a message</label><textarea id="find-message" rows="2"></textarea><div aria-live="polite"></div>';
  const [, field, answer] = box.children;
  field.addEventListener("input", () => {
    const found = findMessages(messages, field.value);
    const links = found.map(({ title, address }) => {
      const link = document.createElement("a");
      link.href = address;
      link.textContent = title;
      return link;
    });
    const nothing = field.value.trim() ? "No message on this page is like it." : "";
    answer.replaceChildren(...(links.length ? links : [nothing]));
  });
  article.querySelector("h1").after(box);
}

// Words that no page has, such as a name in a message, would leave nothing.
function widenSearch(search) {
  const { _performSearch: perform, performTermsSearch: searchTerms } = search;
  search.performTermsSearch = (terms, excluded) => {
    const known = [...terms].filter((term) => searchTerms(new Set([term]), new Set()).length);
    return searchTerms(new Set(known), excluded);
  };
  search._performSearch = (query, ...others) => {
    const { alltitles, docnames, filenames } = search._index;
    const place = docnames.indexOf(MESSAGES.page);
    const messages = Object.entries(alltitles).flatMap(([title, places]) =>
      places.filter(([file, id]) => file === place && id).map(([, id]) => ({ title, address: `#${id}` })));
    const found = wordsOf(query).size > 3 ? findMessages(messages, query) : [];
    const results = found.reverse().map(({ title, address }) =>
      [MESSAGES.page, title, address, null, 1000, filenames[place], SearchResultKind.title]);
    return [...perform(query, ...others), ...results]; // the last one is shown first
  };
}

document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search !== "undefined") widenSearch(Search);
  const article = document.querySelector("article:has(#error-messages)");
  if (article) addBox(article);
});

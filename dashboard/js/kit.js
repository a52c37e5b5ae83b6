// What pages are made of, in one place.

export * from "./api.js";
export * from "./cancel.js";
export * from "./dom.js";
export * from "./format.js";
export * from "./names.js";
export * from "./parts.js";
export * from "./router.js";
export * from "./shell.js";
export * from "./state.js";
export * from "./tabs.js";
export * from "./visible.js";

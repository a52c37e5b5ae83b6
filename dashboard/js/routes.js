// Every page. A new one is a file in pages/ with `mount`, and a line here.
// `nav` puts it into the bar at the top.

export const routes = [
  { pattern: /^\/jobs$/, nav: "Jobs", path: "/jobs", load: () => import("./pages/jobs.js") },
  { pattern: /^\/jobs\/([^/]+)$/, under: "/jobs", load: () => import("./pages/job.js") },
];

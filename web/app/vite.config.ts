import react from "@vitejs/plugin-react";
import { fileURLToPath } from "node:url";
import { defaultClientConditions, defineConfig } from "vite";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig(({ command }) => ({
  root: here("."),
  // Relative, since the page may be served under a prefix.
  base: command === "build" ? "./" : "/ui/",
  plugins: [react()],
  resolve: {
    // The client as it is in the workspace, and not as it is published.
    conditions: ["assent-source", ...defaultClientConditions],
    alias: {
      // Descriptions of a form's fields are words of an agent: they are text, and no Markdown.
      "markdown-to-jsx/react": here("src/parts/no-markdown.ts"),
      // The form's core imports a validator that compiles code from text, which the page's
      // Content-Security-Policy forbids. Ours interprets the schema.
      "@rjsf/validator-ajv8": here("src/parts/schema-validator.ts"),
    },
  },
  build: {
    outDir: here("../../assent/ui"),
    emptyOutDir: true,
    // The licences of what is built in go with it.
    license: { fileName: "licenses.txt" },
    target: "es2022",
    // The policy of the page admits scripts and styles of files only.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // What many pages need is one file: together it is smaller, and asked for once.
    rolldownOptions: {
      output: { codeSplitting: { groups: [{ name: "shared", test: /web.(app.src|packages|node_modules)/, minShareCount: 4 }] } },
    },
  },
  server: { proxy: { "^/(?!ui/)": "http://127.0.0.1:8000" } },
}));

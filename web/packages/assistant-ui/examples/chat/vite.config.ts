import react from "@vitejs/plugin-react";
import { fileURLToPath } from "node:url";
import { defaultClientConditions, defineConfig } from "vite";

export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  base: "./",
  plugins: [react()],
  // The packages beside it are used as they are written.
  resolve: { conditions: ["assent-source", ...defaultClientConditions] },
  // The page's Content-Security-Policy admits files only.
  build: { assetsInlineLimit: 0, modulePreload: { polyfill: false }, target: "es2022" },
});

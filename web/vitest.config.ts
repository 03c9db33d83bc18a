import { defaultClientConditions, defaultServerConditions } from "vite";
import { defineConfig } from "vitest/config";

// The packages as they are in the workspace, and not as they are published.
export default defineConfig({
  resolve: { conditions: ["assent-source", ...defaultClientConditions] },
  ssr: { resolve: { conditions: ["assent-source", ...defaultServerConditions] } },
});

// A web app as both colors run it: sessions are in Redis, so whoever is logged in stays so when the other color serves.
//
//   COLOR, RELEASE   what it says of itself in x-color and x-release
//   HOST, PORT       where it listens; 0.0.0.0:8080
//   REDIS_URL        where sessions are; without it they are in this process, and lost to every other one
//   SESSION_SECRET   signs the cookies: the same for all processes of both colors
import { randomBytes } from "node:crypto";

import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import { createClient } from "redis";

const { COLOR = "blue", RELEASE = "1", HOST = "0.0.0.0", PORT = "8080", REDIS_URL, SESSION_SECRET } = process.env;

let redis;
if (REDIS_URL) {
  redis = createClient({ url: REDIS_URL });
  redis.on("error", (error) => console.error(`redis: ${error.message}`));
  await redis.connect();
}

const app = express();
app.disable("x-powered-by");
app.set("trust proxy", 1); // the load balancer

app.use((_request, response, next) => {
  response.set({ "x-color": COLOR, "x-release": RELEASE });
  next();
});

// Before the sessions: a health check makes none.
app.get("/health", async (_request, response) => {
  try {
    await redis?.ping();
    response.json({ status: "ok", color: COLOR, release: RELEASE });
  } catch (error) {
    response.status(503).json({ status: "failing", reason: error.message });
  }
});

app.use(
  session({
    name: "sid",
    store: redis && new RedisStore({ client: redis, prefix: "session:" }),
    secret: SESSION_SECRET ?? randomBytes(32).toString("hex"),
    resave: false,
    saveUninitialized: false,
    cookie: { httpOnly: true, sameSite: "lax", secure: "auto", maxAge: 60 * 60 * 1000 },
  }),
);
app.use(express.urlencoded({ extended: false }));

app.post("/login", (request, response, next) => {
  const user = request.body?.user;
  if (typeof user !== "string" || user === "") {
    response.status(400).json({ error: "user is missing" });
    return;
  }
  // A session that was there before the login could be somebody else's.
  request.session.regenerate((error) => {
    if (error) return next(error);
    request.session.user = user;
    request.session.save((error) => (error ? next(error) : response.json({ user })));
  });
});

app.get("/whoami", (request, response) => {
  const user = request.session.user;
  if (user) response.json({ user });
  else response.status(401).json({ error: "nobody is logged in" });
});

app.get("/", (_request, response) => response.type("text").send(`${COLOR} ${RELEASE}\n`));

const server = app.listen(Number(PORT), HOST, (error) => {
  if (error) throw error;
  console.log(`${COLOR} ${RELEASE} on ${HOST}:${server.address().port}`);
});

// Requests under way are answered before it ends: a color is taken down without losing any.
process.on("SIGTERM", () => server.close(() => process.exit(0)));

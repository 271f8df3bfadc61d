// Initiates the replica set rs0, makes the user that MONGODB_URI names and puts a few documents into its database. What
// is there already stays as it is, so it may run as often as one likes.
//
// Run by the service mongo-init of docker-compose-mongo.yaml, as `mongosh --nodb`: credentials come from the
// environment, never from arguments.

const MEMBERS = ["mongo1:27017", "mongo2:27018", "mongo3:27019"];
const PRIMARY_WAIT_MS = 60000;

const NOT_YET_INITIALIZED = 94;
const USER_ALREADY_EXISTS = 51003;

/** Who MONGODB_URI logs in as, where that user lives, and which database it is for. */
function application(uri) {
  const parts = /^mongodb:\/\/([^:@\/]+):([^:@\/]+)@[^\/]+\/([^?]+)(?:\?(.*))?$/.exec(uri || "");
  if (!parts) {
    throw new Error("MONGODB_URI must be mongodb://USER:PASSWORD@HOSTS/DATABASE?…");
  }
  const [, user, password, database, options] = parts;
  const [, authSource = database] = /(?:^|&)authSource=([^&]+)/.exec(options || "") || [];
  return { user: decodeURIComponent(user), password: decodeURIComponent(password), database, authSource };
}

/** Runs a command; the server's refusal is an error with its code. */
function run(db, command) {
  const answer = db.runCommand(command);
  if (answer.ok !== 1) {
    throw Object.assign(new Error(answer.errmsg), { code: answer.code });
  }
  return answer;
}

/** Initiates the set if nobody has. */
function initiate(admin) {
  try {
    run(admin, { replSetGetStatus: 1 });
    print("rs0 is initiated already");
  } catch (error) {
    if (error.code !== NOT_YET_INITIALIZED) {
      throw error;
    }
    const members = MEMBERS.map((host, index) => ({ _id: index, host, priority: index === 0 ? 2 : 1 }));
    run(admin, { replSetInitiate: { _id: "rs0", members } });
    print(`rs0 is initiated with ${MEMBERS.join(", ")}`);
  }
}

/** The address of the primary, once there is one. */
function primary(admin) {
  for (let waited = 0; waited < PRIMARY_WAIT_MS; waited += 500) {
    const status = run(admin, { replSetGetStatus: 1 });
    const member = status.members.find((member) => member.stateStr === "PRIMARY");
    if (member) {
      return member.name;
    }
    sleep(500);
  }
  throw new Error(`rs0 has no primary after ${PRIMARY_WAIT_MS / 1000} s; see docker compose logs mongo1`);
}

/** The user for loading, reading, change streams and konekt mongo-health. */
function makeUser(connection, app) {
  const roles = [
    { role: "readWrite", db: app.database },
    { role: "clusterMonitor", db: "admin" },
    { role: "read", db: "local" },
  ];
  const users = connection.getDB(app.authSource);
  try {
    run(users, { createUser: app.user, pwd: app.password, roles });
    print(`user ${app.user} is made in ${app.authSource}`);
  } catch (error) {
    if (error.code !== USER_ALREADY_EXISTS) {
      throw error;
    }
    run(users, { updateUser: app.user, pwd: app.password, roles });
    print(`user ${app.user} is there already; password and roles are as MONGODB_URI says`);
  }
}

/** A few products and orders to see something with. */
function fillStore(connection, app) {
  const products = [
    { _id: "espresso-machine", name: "espresso machine", price: 349.0, stock: 12 },
    { _id: "grinder", name: "grinder", price: 129.5, stock: 40 },
    { _id: "beans", name: "beans 1 kg", price: 23.5, stock: 500 },
  ];
  const orders = [
    { _id: 1, customer: "customer-00001", product: "grinder", quantity: 1, status: "paid" },
    { _id: 2, customer: "customer-00002", product: "beans", quantity: 4, status: "placed" },
  ];
  for (const [collection, documents] of Object.entries({ products, orders })) {
    const updates = documents.map((document) => ({ q: { _id: document._id }, u: { $setOnInsert: document }, upsert: true }));
    const answer = run(connection.getDB(app.database), { update: collection, updates });
    print(`${app.database}.${collection}: ${(answer.upserted || []).length} of ${documents.length} documents are new`);
  }
}

const app = application(process.env.MONGODB_URI);
const root = { user: process.env.MONGO_INITDB_ROOT_USERNAME, pwd: process.env.MONGO_INITDB_ROOT_PASSWORD };

const first = new Mongo(`mongodb://${MEMBERS[0]}/?directConnection=true`).getDB("admin");
first.auth(root);
initiate(first);

// Whoever is primary by now: an earlier run may have been long ago.
const connection = new Mongo(`mongodb://${primary(first)}/?directConnection=true`);
connection.getDB("admin").auth(root);
makeUser(connection, app);
fillStore(connection, app);

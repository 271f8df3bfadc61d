// Stands for mongosh: runs the script named last against a replica set that is only an object, twice in a row as two
// containers would, and prints as JSON what the server was asked to change each time.
//
//   node mongosh.js UNINITIATED|INITIATED SCRIPT
const fs = require("fs");
const vm = require("vm");

const [, , state, script] = process.argv;
const server = { members: state === "INITIATED" ? [member("mongo2:27018")] : null, users: {}, documents: {}, changes: [] };

function member(name) {
  return { name, stateStr: "PRIMARY" };
}

function refusal(code, message) {
  return Object.assign(new Error(message), { code });
}

const COMMANDS = {
  replSetGetStatus() {
    if (!server.members) throw refusal(94, "no replset config has been received");
    return { members: server.members };
  },
  replSetInitiate({ replSetInitiate }) {
    if (server.members) throw refusal(23, "already initialized");
    server.members = [member(replSetInitiate.members[0].host)];
    server.changes.push({ initiated: replSetInitiate });
  },
  createUser({ createUser, pwd, roles }, database) {
    const name = `${database}.${createUser}`;
    if (server.users[name]) throw refusal(51003, "User already exists");
    server.users[name] = pwd;
    server.changes.push({ user: name, roles: roles.map(({ role, db }) => `${role}@${db}`) });
  },
  updateUser({ updateUser, pwd }, database) {
    const name = `${database}.${updateUser}`;
    if (!(name in server.users)) throw refusal(11, "User not found");
    if (server.users[name] !== pwd) server.changes.push({ password: name });
    server.users[name] = pwd;
  },
  update({ update, updates }, database) {
    const upserted = updates.filter(({ q, u, upsert }) => {
      const name = `${database}.${update}.${q._id}`;
      const isNew = upsert && !(name in server.documents);
      if (isNew) {
        server.documents[name] = u.$setOnInsert;
        server.changes.push({ document: name });
      }
      return isNew;
    });
    return { upserted };
  },
};

class Mongo {
  constructor(uri) {
    this.address = /^mongodb:\/\/([^/]+)\/\?directConnection=true$/.exec(uri)[1];
  }
  getDB(database) {
    return {
      auth: ({ user, pwd }) => {
        if (user !== "root" || pwd !== process.env.MONGO_INITDB_ROOT_PASSWORD) throw refusal(18, "Authentication failed.");
        this.authenticated = true;
      },
      runCommand: (command) => {
        const [name] = Object.keys(command);
        if (!this.authenticated) throw refusal(13, `${name} requires authentication`);
        const writes = ["createUser", "updateUser", "update"].includes(name);
        if (writes && this.address !== server.members[0].name) throw refusal(10107, "not primary");
        return { ok: 1, ...COMMANDS[name](command, database) };
      },
    };
  }
}

const runs = [1, 2].map(() => {
  server.changes = [];
  vm.runInNewContext(fs.readFileSync(script, "utf8"), { Mongo, process, print() {}, sleep() {} });
  return server.changes;
});
console.log(JSON.stringify(runs));

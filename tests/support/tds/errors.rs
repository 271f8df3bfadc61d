//! What SQL Server says when something is wrong, and how far each error goes.

/// How far an error goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The statement is undone; the transaction stays and the next statement runs.
    Statement,
    /// The rest of the batch is not run; the transaction stays.
    Batch,
    /// The server has rolled the transaction back.
    Transaction,
    /// The server closes the connection.
    Connection,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    pub number: i32,
    pub state: u8,
    /// Its severity.
    pub class: u8,
    pub reach: Reach,
    pub message: String,
}

/// Number, state, class, reach, message; `{}` stands for the name that is meant.
#[rustfmt::skip]
const ERRORS: &[(i32, u8, u8, Reach, &str)] = &[
    (102, 1, 15, Reach::Batch, "Incorrect syntax near '{}'."),
    (137, 2, 15, Reach::Batch, "Must declare the scalar variable \"{}\"."),
    (195, 10, 15, Reach::Batch, "'{}' is not a recognized built-in function name."),
    (207, 1, 16, Reach::Batch, "Invalid column name '{}'."),
    (208, 1, 16, Reach::Batch, "Invalid object name '{}'."),
    (229, 5, 14, Reach::Statement, "The INSERT permission was denied on the object '{}', database 'konekt', schema 'dbo'."),
    (515, 2, 16, Reach::Statement, "Cannot insert the value NULL into column '{}'; column does not allow nulls. The statement fails."),
    (547, 0, 16, Reach::Statement, "The statement conflicted with the CHECK constraint '{}'."),
    (1105, 2, 17, Reach::Batch, "Could not allocate space for object '{}' in database 'konekt' because the 'PRIMARY' filegroup is full."),
    (1205, 51, 13, Reach::Transaction, "Transaction (Process ID 51) was deadlocked on lock resources with another process and has been chosen as the deadlock victim. Rerun the transaction."),
    (1222, 51, 16, Reach::Batch, "Lock request time out period exceeded."),
    (1913, 1, 16, Reach::Batch, "The operation failed because an index or statistics with name '{}' already exists."),
    (2601, 1, 14, Reach::Statement, "Cannot insert duplicate key row in object '{}' with a unique index."),
    (2627, 1, 14, Reach::Statement, "Violation of PRIMARY KEY constraint. Cannot insert duplicate key in object '{}'."),
    (2628, 1, 16, Reach::Statement, "String or binary data would be truncated in column '{}'."),
    (2714, 6, 16, Reach::Batch, "There is already an object named '{}' in the database."),
    (2812, 62, 16, Reach::Batch, "Could not find stored procedure '{}'."),
    (3902, 1, 16, Reach::Statement, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION."),
    (3903, 1, 16, Reach::Statement, "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION."),
    (3906, 1, 16, Reach::Batch, "Failed to update database 'konekt' because the database is read-only."),
    (4060, 1, 11, Reach::Connection, "Cannot open database \"{}\" requested by the login. The login failed."),
    (6401, 1, 16, Reach::Statement, "Cannot roll back {}. No transaction or savepoint of that name was found."),
    (8114, 5, 16, Reach::Statement, "Error converting data type nvarchar to the type of column '{}'."),
    (8179, 2, 16, Reach::Batch, "Could not find prepared statement with handle {}."),
    (8180, 1, 16, Reach::Batch, "Statement(s) could not be prepared."),
    (9002, 4, 17, Reach::Batch, "The transaction log for database 'konekt' is full due to 'LOG_BACKUP'."),
    (18456, 1, 14, Reach::Connection, "Login failed for user '{}'."),
    (40501, 1, 20, Reach::Connection, "The service is currently busy. Retry the request after 10 seconds."),
    (50000, 1, 16, Reach::Batch, "{}"),
];

impl SqlError {
    /// The error of this number about `name`.
    ///
    /// # Panics
    /// When the table has no such error.
    pub fn new(number: i32, name: &str) -> Self {
        let row = ERRORS.iter().find(|row| row.0 == number);
        let &(number, state, class, reach, message) =
            row.unwrap_or_else(|| panic!("error {number} is not in the double's table of errors"));
        Self { number, state, class, reach, message: message.replace("{}", name) }
    }

    /// Whether SQL Server says afterwards that the statement has been terminated.
    pub fn terminates_statement(&self) -> bool {
        matches!(self.number, 515 | 547 | 2601 | 2627 | 2628)
    }
}

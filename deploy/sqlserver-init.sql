-- Konekt's database and login, with the rights it needs and no more. Running it again changes nothing, but a password
-- that changed in .env is taken over. sqlcmd puts the environment's values in; a password must hold no apostrophe.
IF DB_ID(N'$(SQLSERVER_DB)') IS NULL
    CREATE DATABASE [$(SQLSERVER_DB)];
GO
-- Who reads the table sees the last committed rows and does not wait for Konekt's transactions, nor they for him.
IF EXISTS (SELECT 1 FROM sys.databases WHERE name = N'$(SQLSERVER_DB)' AND is_read_committed_snapshot_on = 0)
    ALTER DATABASE [$(SQLSERVER_DB)] SET READ_COMMITTED_SNAPSHOT ON WITH ROLLBACK IMMEDIATE;
GO
IF SUSER_ID(N'$(SQLSERVER_USER)') IS NULL
    CREATE LOGIN [$(SQLSERVER_USER)] WITH PASSWORD = N'$(SQLSERVER_PASSWORD)', DEFAULT_DATABASE = [$(SQLSERVER_DB)];
ELSE
    ALTER LOGIN [$(SQLSERVER_USER)] WITH PASSWORD = N'$(SQLSERVER_PASSWORD)';
GO
USE [$(SQLSERVER_DB)];
GO
IF USER_ID(N'$(SQLSERVER_USER)') IS NULL
    CREATE USER [$(SQLSERVER_USER)] FOR LOGIN [$(SQLSERVER_USER)];
GO
-- It makes its tables where they are absent, reads and writes them.
ALTER ROLE db_ddladmin ADD MEMBER [$(SQLSERVER_USER)];
ALTER ROLE db_datareader ADD MEMBER [$(SQLSERVER_USER)];
ALTER ROLE db_datawriter ADD MEMBER [$(SQLSERVER_USER)];
GO
